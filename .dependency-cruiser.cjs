/** The floors of the house (docs/decisions.md): imports go down only, no circles, each outside library behind one folder. */
const floors = [
  ['^src/(errors|limits|clock|defined|make-directories|records|state|worker-url)\\.ts$'],
  ['^src/stats/'],
  ['^src/(models|detectors|scaling|gpu|wasm|functions|cluster)/'],
  ['^src/(codec|broker)/'],
  ['^src/kafka/'],
  ['^src/operators/'],
  ['^pipelines/'],
  ['^src/(simulator|dashboard|api)/'],
  ['^src/(cli/|index\\.ts)'],
];

const upward = floors.slice(0, -1).map(([from], i) => ({
  name: `floor-${i}-imports-up`,
  severity: 'error',
  from: { path: from },
  to: { path: floors.slice(i + 1).map(([path]) => path) },
}));

const sideBySide = ['models', 'detectors', 'scaling', 'gpu', 'wasm', 'functions', 'cluster', 'codec', 'broker'].map(
  (folder) => ({
    name: `${folder}-imports-a-neighbour`,
    severity: 'error',
    from: { path: `^src/${folder}/` },
    to: {
      path: '^src/(models|detectors|scaling|gpu|wasm|functions|cluster|codec|broker)/',
      pathNot: folder === 'functions' ? '^src/(functions|wasm)/' : `^src/${folder}/`,
    },
  }),
);

const behindOneFolder = [
  ['kafkajs', '^src/kafka/'],
  ['avsc', '^src/codec/'],
  ['@tensorflow', '^src/models/neural/'],
  ['koffi', '^src/wasm/(engines|aot)/'],
].map(([library, folder]) => ({
  name: `only-${folder.replace(/\W+/g, '-')}-imports-${library}`,
  severity: 'error',
  from: { path: '^(src|pipelines)/', pathNot: folder },
  to: { path: `node_modules/${library}` },
}));

const pure = {
  name: 'pure-folders-know-no-streams-or-http',
  severity: 'error',
  from: { path: '^src/(models|detectors|scaling|gpu|wasm|functions|stats)/' },
  to: { path: ['node_modules/(rxjs|kafkajs)', '^(node:)?https?$'] },
};

module.exports = {
  forbidden: [
    { name: 'no-circles', severity: 'error', from: {}, to: { circular: true } },
    ...upward,
    ...sideBySide,
    ...behindOneFolder,
    pure,
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
  },
};
