import type { ComponentChildren } from 'preact';

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => ComponentChildren;
  /** Right-aligned digits. */
  readonly isNumber?: boolean;
}

/** A table that becomes a list of cards on a narrow screen. */
export function Table<Row>(props: {
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
}) {
  return (
    <div class="table-frame">
      <table>
        <caption class="unseen">{props.caption}</caption>
        <thead>
          <tr>
            {props.columns.map(column => (
              <th key={column.title} scope="col" class={column.isNumber === true ? 'number' : ''}>
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map(row => (
            <tr key={props.keyOf(row)}>
              {props.columns.map((column, index) =>
                index === 0 ? (
                  <th key={column.title} scope="row">
                    {column.cell(row)}
                  </th>
                ) : (
                  <td
                    key={column.title}
                    data-title={column.title}
                    class={column.isNumber === true ? 'number' : ''}
                  >
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Forward and back through a list that only knows its next page. */
export function Pager(props: {
  readonly cursors: readonly string[];
  readonly next: string | number | undefined;
  readonly onChange: (cursors: readonly string[]) => void;
}) {
  if (props.cursors.length === 0 && props.next === undefined) return null;
  return (
    <nav class="pager" aria-label="Pages of the list">
      <button
        type="button"
        disabled={props.cursors.length === 0}
        onClick={() => props.onChange(props.cursors.slice(0, -1))}
      >
        Back
      </button>
      <span>Page {props.cursors.length + 1}</span>
      <button
        type="button"
        disabled={props.next === undefined}
        onClick={() => {
          if (props.next !== undefined) props.onChange([...props.cursors, String(props.next)]);
        }}
      >
        Next
      </button>
    </nav>
  );
}
