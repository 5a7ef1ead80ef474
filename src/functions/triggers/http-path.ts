/**
 * Decoded segments of a path; `/` is one empty segment. Undefined for what cannot be decoded, and for paths with `.` or `..`, in whatever disguise: a function
 * that opens files by a parameter must not be led out of its folder.
 */
export function segmentsOf(path: string): string[] | undefined {
  if (!path.startsWith('/')) return undefined;
  const segments = path.slice(1).split('/');
  if (isPlain(path)) return segments;
  try {
    const decoded = segments.map((segment) => decodeURIComponent(segment));
    const pieces = decoded.flatMap((segment) => segment.split(/[/\\]/));
    return pieces.some((piece) => piece === '.' || piece === '..' || piece.includes('\0')) ? undefined : decoded;
  } catch {
    // A percent sign without two digits, or bytes that are no UTF-8.
    return undefined;
  }
}

/** Whether a path stands for itself. */
export function isPlain(path: string): boolean {
  return !path.includes('%') && !path.includes('.') && !path.includes('\\');
}

/** A segment of a trigger's path: itself, a parameter, or the rest. */
export type PathStep = { readonly literal: string } | { readonly parameter: string } | { readonly rest: true };

/** What a trigger's path matches, from left to right; or why it can never match. */
export function stepsOf(path: string): readonly PathStep[] | string {
  const segments = segmentsOf(path);
  if (!segments) return 'its path cannot be decoded, or has a segment . or ..';
  const steps: PathStep[] = [];
  const names = new Set<string>();
  for (const [i, segment] of segments.entries()) {
    if (segment === '*') {
      if (i < segments.length - 1) return '* stands for the rest, so nothing can follow it';
      steps.push({ rest: true });
    } else if (segment.startsWith(':')) {
      const parameter = segment.slice(1);
      if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(parameter)) return `:${parameter} is no name of a parameter`;
      if (names.has(parameter)) return `it has two parameters :${parameter}`;
      names.add(parameter);
      steps.push({ parameter });
    } else steps.push({ literal: segment });
  }
  return steps;
}

/** The same text for triggers that want the same requests, whatever their parameters are called; undefined for a path that can never match. */
export function routeOf({ method, path }: { readonly method: string; readonly path: string }): string | undefined {
  const steps = stepsOf(path);
  if (typeof steps === 'string') return undefined;
  return JSON.stringify([method, ...steps.map((step) => ('parameter' in step ? { parameter: '' } : step))]);
}
