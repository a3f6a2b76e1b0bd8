/** Files that the browser saves from what the page shows. */

/** A cell for spreadsheets; what begins like a formula must not become one. */
const cell = (value: string | number | null): string => {
  const text = String(value ?? "");

  return typeof value === "number" ? text : `"${(/^[=+\-@\t\r]/u.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
};

export const csv = (rows: (string | number | null)[][]): string => rows.map((row) => row.map(cell).join(",")).join("\r\n");

export const save = (name: string, text: string, type = "text/csv"): void => {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");

  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
};
