/**
 * What Airflow's UI loads: it imports the bundle, then looks for a global component of the app's name.
 * One bundle serves the page and the tabs; the props say which of them is wanted.
 */
import { Page } from "./page";
import { Tab, type Place } from "./tab";

const ClaudeBatches = (place: Place) => (place.runId === undefined ? <Page /> : <Tab {...place} />);

for (const name of ["Claude Batches", "Claude Batch"]) {
  Reflect.set(globalThis, name, ClaudeBatches);
}
