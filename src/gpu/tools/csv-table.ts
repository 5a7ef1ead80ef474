import { Problems } from './reading.js';

/** A cell, with the unit its column names (`memory.total [MiB]`). */
export interface Cell {
  readonly text: string;
  readonly unit: string | undefined;
}

export interface CsvTable {
  /** By the column's name without its unit. */
  readonly rows: readonly ReadonlyMap<string, Cell>[];
  /** Lines that are no rows: errors, warnings. */
  readonly others: readonly string[];
  /** There was a line with the names of columns. */
  readonly headed: boolean;
  readonly problems: readonly string[];
}

/**
 * Reads `--format=csv` of nvidia-smi and of tools that answer like it: `, ` between cells, nothing quoted. A row counts only when its cells are as many as the
 * columns, for a shifted row would put values under wrong names; a last line without its end may have been cut and loses its last cell.
 *
 * @param known is this the name of a column? The first line with two of them, or made of nothing else, is the header
 * @param free the one column whose text may hold commas
 */
export function readCsvTable(text: string, known: (column: string) => boolean, free?: string): CsvTable {
  const problems = new Problems();
  const rows: Map<string, Cell>[] = [];
  const others: string[] = [];
  const lines = text.split(/\r?\n/);
  const complete = lines.at(-1)?.trim() === '';
  let columns: { name: string; unit: string | undefined }[] | undefined;
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '') continue;
    const isCut = !complete && i === lines.length - 1;
    if (!columns) {
      const candidates = line.split(',').map(columnOf);
      const hits = candidates.filter(({ name }) => known(name)).length;
      if (hits >= 2 || (hits === 1 && candidates.length === 1)) columns = candidates;
      else others.push(line.trim());
      continue;
    }
    let cells = line.split(', ');
    const surplus = cells.length - columns.length;
    const wide = free === undefined ? -1 : columns.findIndex(({ name }) => name === free);
    if (surplus > 0 && wide >= 0)
      cells = [
        ...cells.slice(0, wide),
        cells.slice(wide, wide + surplus + 1).join(', '),
        ...cells.slice(wide + surplus + 1),
      ];
    if (cells.length !== columns.length && !(isCut && surplus < 0)) {
      others.push(line.trim());
      if (cells.length > 1)
        problems.add(`a row of ${cells.length} cells under ${columns.length} columns: ${line.trim()}`);
      continue;
    }
    if (isCut) {
      cells.pop();
      problems.add('the answer ends in the middle of a row');
    }
    const row = new Map<string, Cell>();
    for (const [at, cell] of cells.entries()) {
      const { name, unit } = columns[at] as { name: string; unit: string | undefined };
      if (!row.has(name)) row.set(name, { text: cell.trim(), unit });
      else if (row.get(name)?.text !== cell.trim()) problems.add(`two columns ${name} that differ`);
    }
    rows.push(row);
  }
  if (!columns && others.length > 0) problems.add('no line with the names of columns');
  return { rows, others, headed: columns !== undefined, problems: problems.list };
}

function columnOf(text: string): { name: string; unit: string | undefined } {
  const match = /^\s*(.*?)\s*(?:\[([^\]]*)\])?\s*$/.exec(text);
  return { name: match?.[1] ?? '', unit: match?.[2] };
}
