/**
 * Texts in the language that Airflow's UI is set to. English is what the source says, and what stands for a text that
 * a catalogue lacks.
 */
import { Fragment, createElement, type ReactNode } from "react";

import { CATALOGUE, LANGUAGES } from "./catalogue";

let language = "en";
let column = -1;

/** Called before anything is drawn: Airflow draws all anew when its language changes. */
export const setLanguage = (locale: string): void => {
  language = locale;
  column = LANGUAGES.indexOf(locale.split("-")[0] ?? "");
};

/**
 * For the elements that hold all else: the language that the texts are in. Where Airflow's is written from right to
 * left they are English, whose sentences would lose their order.
 */
export const spoken = () => ({ dir: "ltr", lang: LANGUAGES[column] ?? "en" }) as const;

/** For numbers and names of days; digits stay Latin, as in ids. */
export const locale = (): string => {
  try {
    return new Intl.Locale(language, { numberingSystem: "latn" }).toString();
  } catch {
    return "en";
  }
};

/** A name that somebody has made up may be one that every object knows. */
const written = (english: string): string =>
  (Object.hasOwn(CATALOGUE, english) ? CATALOGUE[english]?.[column] : undefined) || english;

const PLACE = /\{(\w+)\}/gu;

/** A text; `{name}` in it stands for a value. */
export const t = (english: string, values: Record<string, string | number> = {}): string =>
  written(english).replace(PLACE, (_, name: string) => String(values[name] ?? ""));

/** A text with elements in it. */
export const tx = (english: string, values: Record<string, ReactNode>): ReactNode =>
  written(english)
    .split(PLACE)
    .map((part, index) => createElement(Fragment, { key: index }, index % 2 === 0 ? part : values[part]));

/** One of two texts, as the language counts; `{n}` stands for the number. */
export const plural = (number: number, one: string, many: string, values: Record<string, string | number> = {}): string =>
  t(isOne(number) ? one : many, { n: new Intl.NumberFormat(locale()).format(number), ...values });

const isOne = (number: number): boolean =>
  column < 0 ? number === 1 : new Intl.PluralRules(locale()).select(number) === "one";
