/** A table of sums: sorted by any column, a page at a time, saved as CSV. */
import { Box, Button, HStack, Table, Text } from "@chakra-ui/react";
import { useState } from "react";

import { Swatch } from "./chart";
import { csv, save } from "./files";
import { Right, hiddenBelow, inNarrow } from "./grid";
import { Ltr, Paging, TWO_LINES, Words } from "./parts";
import { t } from "./text";

export type Line<T> = { readonly color?: string; readonly name: string; readonly sum: T };

/** A column; narrow tables have only those that are `small`. */
export type Figure<T> = { name: string; small?: boolean; text: (sum: T) => string; value: (sum: T) => number };

const LINES = 10;
/** From this width on, a table has all columns. */
const ROOM = 860;

const NAMES = { width: "26%", [`@container (max-width: ${ROOM - 1}px)`]: { width: "42%" } };
/** Languages have longer words than columns of a telephone have room for. */
const HEAD = inNarrow({ fontSize: "xs", paddingInlineStart: 0 });

type Props<T> = {
  readonly columns: readonly Figure<T>[];
  /** What the file of the CSV is called. */
  readonly file: string;
  readonly heading: string;
  readonly label?: string;
  readonly lines: Line<T>[];
  /** What the lines are. */
  readonly named: string;
  /** Fields of the sums that the CSV holds. */
  readonly numbers: readonly (keyof T & string)[];
  readonly onPick?: (name: string) => void;
  /** The column that is sorted by first, if it is not in the order of the lines. */
  readonly sortedBy?: string;
};

export const SumTable = <T,>({ columns, file, heading, label = heading, lines, named, numbers, onPick, sortedBy }: Props<T>) => {
  const [sorted, setSorted] = useState(sortedBy === undefined ? undefined : { down: true, name: sortedBy });
  const [offset, setOffset] = useState(0);
  const column = columns.find(({ name }) => name === sorted?.name);
  const ordered =
    sorted === undefined
      ? lines
      : [...lines].sort(
          (one, other) =>
            (column ? column.value(one.sum) - column.value(other.sum) : one.name.localeCompare(other.name)) * (sorted.down ? -1 : 1),
        );
  const header = (name: string, text: string, figure?: Figure<T>) => (
    <Table.ColumnHeader
      aria-sort={sorted?.name === name ? (sorted.down ? "descending" : "ascending") : "none"}
      css={figure === undefined ? NAMES : { ...HEAD, ...hiddenBelow(figure.small === true ? undefined : ROOM) }}
      key={name}
      scope="col"
      textAlign={figure === undefined ? undefined : "end"}
    >
      <Button
        color="inherit"
        css={{ hyphens: "auto", overflowWrap: "anywhere" }}
        fontSize="inherit"
        fontWeight="inherit"
        h="auto"
        minW={0}
        onClick={() => setSorted({ down: sorted?.name === name ? !sorted.down : figure !== undefined, name })}
        px={0}
        size="xs"
        textAlign="inherit"
        variant="plain"
        whiteSpace="normal"
      >
        {text}
        {sorted?.name === name ? (sorted.down ? " ↓" : " ↑") : ""}
      </Button>
    </Table.ColumnHeader>
  );

  return (
    <Box>
      <HStack flexWrap="wrap" justify="space-between" mb={1}>
        <Text as="h3" fontSize="sm" fontWeight="medium">
          {heading}
        </Text>
        <HStack>
          <Paging limit={LINES} offset={offset} onChange={setOffset} total={lines.length} />
          <Button
            aria-label={t("{table} as CSV", { table: heading })}
            onClick={() => save(`${file}.csv`, csv([[named, ...numbers], ...ordered.map(({ name, sum }) => [name, ...numbers.map((number) => sum[number] as number)])]))}
            size="xs"
            variant="outline"
          >
            CSV
          </Button>
        </HStack>
      </HStack>
      <Box css={{ containerType: "inline-size" }}>
        <Table.Root aria-label={label} css={{ tableLayout: "fixed" }} size="sm" w="100%">
          <Table.Header>
            <Table.Row>
              {header(named, named)}
              {columns.map((one) => header(one.name, t(one.name), one))}
            </Table.Row>
          </Table.Header>
          <Table.Body fontVariantNumeric="tabular-nums">
            {ordered.slice(offset, offset + LINES).map(({ color, name, sum }) => (
              <Table.Row key={name}>
                <Table.Cell>
                  <HStack gap={2} minW={0}>
                    {color === undefined ? undefined : <Swatch color={color} />}
                    {onPick === undefined || name === NO_NAME ? (
                      <Text {...TWO_LINES} title={name}>
                        <Words>{name || t("named by each request")}</Words>
                      </Text>
                    ) : (
                      <Button fontSize="sm" h="auto" flexShrink={1} justifyContent="start" minW={0} onClick={() => onPick(name)} px={0} size="xs" textAlign="start" title={t("Only {dag}", { dag: name })} variant="plain">
                        <Text as="span" {...TWO_LINES}>
                          <Words>{name}</Words>
                        </Text>
                      </Button>
                    )}
                  </HStack>
                </Table.Cell>
                {columns.map((one) => (
                  <Right from={one.small === true ? undefined : ROOM} key={one.name}>
                    <Ltr>{one.text(sum)}</Ltr>
                  </Right>
                ))}
              </Table.Row>
            ))}
          </Table.Body>
        </Table.Root>
      </Box>
    </Box>
  );
};

/** Costs of jobs without a tag, in the book. */
const NO_NAME = "(none)";
