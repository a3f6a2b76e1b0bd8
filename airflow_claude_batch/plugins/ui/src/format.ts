/** Numbers, money and times as text; times in the zone that Airflow's UI is set to. */
import { useSyncExternalStore } from "react";

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

/** 2026-11-21 09:46, in this zone. */
export const dateTime = (iso: string, timeZone: string): string =>
  new Intl.DateTimeFormat("sv-SE", {
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    month: "2-digit",
    timeZone,
    year: "numeric",
  }).format(new Date(iso));

export const count = (value: number): string => new Intl.NumberFormat("en").format(value);

/** 98.4M: for token counts, whose every digit nobody reads. */
export const compact = (value: number): string =>
  new Intl.NumberFormat("en", { maximumFractionDigits: 1, notation: "compact" }).format(value);

/** Cents; hundredths of a cent where it is less than one cent. */
export const usd = (value: number): string => usdWith(value, value !== 0 && Math.abs(value) < 0.01 ? 4 : 2);

/** Dollars without cents where there are thousands of them. */
export const usdShort = (value: number): string => (value < 1_000 ? usd(value) : usdWith(value, 0));

const usdWith = (value: number, digits: number): string =>
  new Intl.NumberFormat("en", {
    currency: "USD",
    maximumFractionDigits: digits,
    minimumFractionDigits: digits,
    style: "currency",
  }).format(value);

/** Never rounds to 100 % or 0 % what is not. */
export const percent = (share: number): string => {
  const value = share * 100;
  const shown = value > 99.9 && value < 100 ? 99.9 : value < 0.1 && value > 0 ? 0.1 : value;

  const digits = shown === 0 || shown === 100 ? 0 : 1;

  return `${new Intl.NumberFormat("en", { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(shown)}%`;
};

export const duration = (seconds: number): string => {
  const minutes = Math.round(seconds / 60);

  if (seconds < 90) {
    return `${Math.max(Math.round(seconds), 0)} s`;
  }
  if (minutes < 60) {
    return `${minutes} min`;
  }

  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

export const secondsBetween = (from: string, to: string | number): number =>
  (new Date(to).getTime() - new Date(from).getTime()) / 1000;

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;
