import { render } from 'preact';
import { App } from './app.tsx';
import { resumeSession } from './session.ts';
import './styles/tokens.css';
import './styles/base.css';
import './styles/layout.css';
import './styles/parts.css';

const root = document.getElementById('app');
if (root !== null) {
  render(<App />, root);
  void resumeSession();
}
