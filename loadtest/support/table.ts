import type { Cell, Result } from './scenario.ts';

/** A result as text: title, aligned columns, notes, the command to repeat it. */
export function formatResult(result: Result): string {
  const rows = [result.columns, ...result.rows].map(row => row.map(formatCell));
  const widths = result.columns.map((_, column) =>
    Math.max(...rows.map(row => row[column]?.length ?? 0)),
  );
  const lines = rows.map(row =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
  const rule = widths.map(width => '-'.repeat(width)).join('  ');
  const [head = '', ...body] = lines;
  const table = ['', ...[head, rule, ...body].map(line => `  ${line}`), ''];
  return [
    `${result.scenario}: ${result.about}`,
    // A scenario that was left out has none.
    ...(result.columns.length === 0 ? [] : table),
    ...result.notes.map(note => `  ${note}`),
    `  again: ${result.command}`,
    '',
  ].join('\n');
}

/** Three significant digits are more than two runs agree on. */
function formatCell(cell: Cell): string {
  if (typeof cell === 'string') return cell;
  if (!Number.isFinite(cell)) return '-';
  if (Number.isInteger(cell) || Math.abs(cell) >= 1_000) {
    return Math.round(cell).toLocaleString('en-US');
  }
  return cell.toPrecision(3);
}
