import type { Api } from '../api/client.ts';
import { TextField, textOf } from '../ui/fields.tsx';
import { Form } from '../ui/form.tsx';

/** For administrators, when there is none yet. */
export function CreateEnvironment(props: { readonly api: Api; readonly onCreated: () => void }) {
  return (
    <Form
      submit="Create environment"
      onSubmit={async values => {
        const body = { id: textOf(values, 'id') };
        await props.api.act('POST', '/environments', { body });
        props.onCreated();
      }}
    >
      <TextField
        label="Name"
        name="id"
        isRequired
        hint="Small letters, digits and hyphens, such as dev. It is part of addresses and cannot be changed."
      />
    </Form>
  );
}
