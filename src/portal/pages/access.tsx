import { usePlace } from '../place.ts';
import { Select, TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';
import { notify } from '../ui/parts.tsx';
import { Table } from '../ui/table.tsx';
import { grantText } from '../words.ts';

/** Who else may do what with a record; `grants` are those that make sense for it. */
export function AccessPanel(props: {
  readonly owner: string;
  readonly access: Readonly<Record<string, string>>;
  /** Of the record in the API. */
  readonly path: string;
  readonly grants: readonly string[];
  readonly onChanged: () => void;
}) {
  const { api } = usePlace();
  const at = (principal: string): string => `${props.path}/access/${encodeURIComponent(principal)}`;
  const rows = Object.entries(props.access);
  const take = async (principal: string): Promise<void> => {
    await api.act('DELETE', at(principal));
    notify(`${principal} has no access any more`);
    props.onChanged();
  };
  return (
    <section class="panel">
      <h2>Access</h2>
      <p>
        It belongs to <code>{props.owner}</code>. Owners of the environment may do everything.
      </p>
      {rows.length > 0 && (
        <Table
          caption="Who was given access"
          rows={rows}
          keyOf={([principal]) => principal}
          columns={[
            { title: 'Who', cell: ([principal]) => <code>{principal}</code> },
            { title: 'May', cell: ([, grant]) => grantText(grant) },
            {
              title: 'Take away',
              cell: ([principal]) => (
                <button
                  type="button"
                  onClick={() =>
                    void take(principal).catch((error: unknown) => notify(String(error)))
                  }
                >
                  Remove<span class="unseen"> {principal}</span>
                </button>
              ),
            },
          ]}
        />
      )}
      <Form
        submit="Give access"
        onSubmit={async values => {
          const principal = textOf(values, 'principal') ?? '';
          await api.act('PUT', at(principal), { body: { grant: textOf(values, 'grant') } });
          notify(`${principal} has access`);
          props.onChanged();
        }}
      >
        <div class="row">
          <TextField
            label="Who"
            name="principal"
            isRequired
            hint={
              <>
                <code>user:ann</code> or <code>token:…</code>
              </>
            }
          />
          <Select
            label="May"
            name="grant"
            options={props.grants.map(grant => ({ value: grant, label: grantText(grant) }))}
            value={props.grants.at(-1) ?? ''}
          />
        </div>
      </Form>
    </section>
  );
}
