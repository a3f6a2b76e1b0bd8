/** Numbers, money and times as text; times in the zone that Airflow's UI is set to, written as Airflow writes them. */
import { useSyncExternalStore } from "react";

import { locale, t } from "./text";

const KEY = "timezone";

const subscribe = (changed: () => void) => {
  // Airflow's UI announces a change in this window with an event of its own.
  globalThis.addEventListener("storage", changed);
  globalThis.addEventListener("local-storage", changed);

  return () => {
    globalThis.removeEventListener("storage", changed);
    globalThis.removeEventListener("local-storage", changed);
  };
};

const currentZone = (): string => {
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const stored = localStorage.getItem(KEY)?.replaceAll('"', "") ?? own;

  try {
    Intl.DateTimeFormat("en", { timeZone: stored });

    return stored;
  } catch {
    return own;
  }
};

export const useTimezone = (): string => useSyncExternalStore(subscribe, currentZone);

/** 2026-11-21 09:46, in this zone: Airflow writes so in every language. */
export const dateTime = (iso: string, timeZone: string): string =>
  new Intl.DateTimeFormat("sv-SE", {
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    month: "2-digit",
    timeZone,
    year: "numeric",
  }).format(new Date(iso));

/** 04:17, in this zone. */
export const clock = (time: number, timeZone: string): string =>
  new Intl.DateTimeFormat("sv-SE", { hour: "2-digit", minute: "2-digit", timeZone }).format(new Date(time));

const dayWith = (day: string, options: Intl.DateTimeFormatOptions): string =>
  new Intl.DateTimeFormat(locale(), { ...options, timeZone: "UTC" }).format(new Date(`${day}T00:00:00Z`));

/** 21 Nov, for an axis. */
export const shortDay = (day: string): string => dayWith(day, { day: "numeric", month: "short" });

/** Saturday, 21 November. */
export const longDay = (day: string): string => dayWith(day, { day: "numeric", month: "long", weekday: "long" });

const number = (value: number, options: Intl.NumberFormatOptions = {}): string =>
  new Intl.NumberFormat(locale(), options).format(value);

/** From here on nobody reads every digit, and no column has room for them. */
const MANY = 1e10;
const MUCH = 1e7;

export const count = (value: number): string => (Math.abs(value) < MANY ? number(value) : compact(value));

/** 98.4M: for token counts, whose every digit nobody reads. */
export const compact = (value: number): string => number(value, { maximumFractionDigits: 1, notation: "compact" });

/** Cents; hundredths of a cent where it is less than one cent. */
export const usd = (value: number): string =>
  value !== 0 && Math.abs(value) < 0.0001
    ? `< ${usdWith(0.0001, 4)}`
    : usdWith(value, value !== 0 && Math.abs(value) < 0.01 ? 4 : 2);

export const usdWhole = (value: number): string => usdWith(value, 0);

/** Dollars without cents where there are thousands of them. */
export const usdShort = (value: number): string => (value < 1_000 ? usd(value) : usdWhole(value));

const usdWith = (value: number, digits: number): string =>
  number(value, {
    currency: "USD",
    currencyDisplay: "narrowSymbol",
    style: "currency",
    ...(Math.abs(value) < MUCH
      ? { maximumFractionDigits: digits, minimumFractionDigits: digits }
      : { maximumFractionDigits: 1, notation: "compact" }),
  });

/** Never rounds to 100 % or 0 % what is not. */
export const percent = (share: number): string => {
  const value = share * 100;
  const shown = value > 99.9 && value < 100 ? 99.9 : value < 0.1 && value > 0 ? 0.1 : value;
  const digits = shown === 0 || shown === 100 ? 0 : 1;

  return number(shown / 100, { maximumFractionDigits: digits, minimumFractionDigits: digits, style: "percent" });
};

/** Days whose hours and minutes say nothing. */
const LONG = 10;

export const duration = (seconds: number): string => {
  const minutes = Math.round(seconds / 60);
  const days = Math.round(seconds / 86_400);

  if (seconds < 90) {
    return t("{n} s", { n: Math.max(Math.round(seconds), 0) });
  }
  if (minutes < 60) {
    return t("{n} min", { n: minutes });
  }
  if (days >= LONG) {
    return t("{n} d", { n: count(days) });
  }

  return t("{h} h {m} min", { h: Math.floor(minutes / 60), m: minutes % 60 });
};

export const secondsBetween = (from: string, to: string | number): number =>
  (new Date(to).getTime() - new Date(from).getTime()) / 1000;
