/**
 * What Airflow's UI loads: it imports the bundle, then looks for a global component of the app's name.
 * One bundle serves the page, the tabs and the dashboard's card; name and props say which of them is wanted.
 */
import { useLocaleContext } from "@chakra-ui/react";
import { useEffect, useState, type ComponentType } from "react";
import { useSearchParams } from "react-router-dom";

import { Card } from "./card";
import { DagTab } from "./dagtab";
import { Page } from "./page";
import { Tab, type Place } from "./tab";
import { setLanguage } from "./text";

/**
 * Airflow swaps its lazily loaded component for this one when the address first changes, and mounts it anew: what
 * was typed, scrolled and opened would be lost. A change to the same address at load lets that happen at once.
 */
let settled = false;

const ClaudeBatches = (place: Place) => {
  const [, setParams] = useSearchParams();
  const [ready, setReady] = useState(settled);

  useEffect(() => {
    if (!settled) {
      settled = true;
      setParams((before) => before, { replace: true });
    }
    setReady(true);
    // Once a load: setParams is another function after each change.
  }, []);
  if (!ready) {
    return null;
  }
  if (place.runId !== undefined) {
    return <Tab {...place} />;
  }

  return place.dagId === undefined ? <Page /> : <DagTab dagId={place.dagId} />;
};

/** Drawn anew, in whole, when Airflow's language changes. */
const inLanguage = (Component: ComponentType<Place>) => (place: Place) => {
  const { locale } = useLocaleContext();

  setLanguage(locale);

  return <Component key={locale} {...place} />;
};

for (const name of ["Claude Batches", "Claude Batch"]) {
  Reflect.set(globalThis, name, inLanguage(ClaudeBatches));
}
Reflect.set(globalThis, "Claude Batches Card", inLanguage(Card));
