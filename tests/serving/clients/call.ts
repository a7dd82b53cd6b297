// One call of each operation by the generated client; prints the status of each as JSON.
// Runs as compiled beside the generated code: `node call.js URL KEY`.

import { client } from "./generated/client.gen";
import * as api from "./generated/index";

declare const process: { argv: string[] };
const [url, key] = process.argv.slice(2);
client.setConfig({ baseUrl: url, auth: (scheme) => (scheme.scheme === "bearer" ? key : undefined) });

async function main(): Promise<void> {
  const found: Record<string, number> = {};
  const note = (name: string, answer: { response?: Response }): void => {
    found[name] = answer.response?.status ?? 0;
  };
  const body: api.PredictionRequest = { user_id: 7, "hours-per-week": 40 };
  const answered = await api.predict({ body });
  note("predict", answered);
  const prediction_id: string = answered.data!.prediction_id;
  const path = { prediction_id };
  note("predict_batch", await api.predictBatch({ body: { rows: [body, { age: 30 }] } }));
  note("explain", await api.explain({ body }));
  note("give_feedback", await api.giveFeedback({ body: { prediction_id, label: 1 } }));
  note("show_receipt", await api.showReceipt({ path }));
  note("replay_prediction", await api.replayPrediction({ path }));
  note("explain_prediction", await api.explainPrediction({ path }));
  note("show_features", await api.showFeatures({ path: { user_id: 7 } }));
  note("show_model", await api.showModel());
  note("show_experiment", await api.showExperiment());
  note("health", await api.health());
  note("ready", await api.ready());
  note("show_metrics", await api.showMetrics());
  console.log(JSON.stringify(found));
}

void main();
