/** One of some options. */
import { NativeSelect } from "@chakra-ui/react";

import { t } from "./text";

export const translated = (options: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(options).map(([key, name]) => [key, t(name)]));

type ChoiceProps = {
  readonly label: string;
  readonly onChange: (value: string) => void;
  readonly options: Record<string, string>;
  readonly size?: "sm" | "xs";
  readonly value: string;
};

export const Choice = ({ label, onChange, options, size = "sm", value }: ChoiceProps) => (
  <NativeSelect.Root size={size} w={{ base: size === "sm" ? "100%" : "170px", md: "180px" }}>
    <NativeSelect.Field aria-label={label} onChange={(event) => onChange(event.target.value)} value={value}>
      {Object.entries(value in options ? options : { ...options, [value]: value }).map(([key, name]) => (
        <option key={key} value={key}>
          {name}
        </option>
      ))}
    </NativeSelect.Field>
    <NativeSelect.Indicator />
  </NativeSelect.Root>
);
