/** Who spends how much, by the jobs, and what the next runs will cost. */
import { Box, HStack, Table, Text } from "@chakra-ui/react";
import { useState } from "react";

import type { Schedule, Sum } from "./api";
import { count, percent, usd, usdShort } from "./format";
import { hiddenBelow } from "./grid";
import { Ltr, Moment, Nothing, Paging, TWO_LINES, Words } from "./parts";
import { NEXT } from "./places";
import { NUMBERS } from "./sums";
import { SumTable, type Figure, type Line } from "./sumtable";
import { plural, t } from "./text";

const succeeded = (sum: Sum) => (sum.requests_over > 0 ? sum.succeeded / sum.requests_over : undefined);

const COLUMNS: Figure<Sum>[] = [
  { name: "Jobs", text: (sum) => count(sum.jobs), value: (sum) => sum.jobs },
  { name: "Failed", small: true, text: (sum) => count(sum.failed), value: (sum) => sum.failed },
  { name: "Late", text: (sum) => count(sum.late), value: (sum) => sum.late },
  { name: "Requests", text: (sum) => count(sum.requests), value: (sum) => sum.requests },
  {
    name: "Succeeded",
    text: (sum) => {
      const share = succeeded(sum);

      return share === undefined ? "–" : percent(share);
    },
    value: (sum) => succeeded(sum) ?? 0,
  },
  { name: "Cost", small: true, text: (sum) => usdShort(sum.cost_usd), value: (sum) => sum.cost_usd },
  { name: "Saved", text: (sum) => usdShort(sum.saved_usd), value: (sum) => sum.saved_usd },
];
const LINES = 10;
const HEADS: Record<string, string> = { connection: "Connection", model: "Model" };

type CostTableProps = { readonly lines: Line<Sum>[]; readonly onPick?: (name: string) => void; readonly title: string };

export const CostTable = ({ lines, onPick, title }: CostTableProps) => (
  <SumTable
    columns={COLUMNS}
    file={`claude-batches-by-${title.toLowerCase()}`}
    heading={t(`Cost by ${title}`)}
    lines={lines}
    named={t(HEADS[title] ?? title)}
    numbers={NUMBERS}
    onPick={onPick}
    sortedBy="Cost"
  />
);

/** From this width on, the table of next runs has their times. */
const ROOM = 420;

/** What the runs of the next hours will cost, by what such runs have cost. */
export const Next = ({ schedule }: { readonly schedule: Schedule }) => {
  const [offset, setOffset] = useState(0);

  return (
    <Box css={{ containerType: "inline-size" }} id={NEXT} tabIndex={-1}>
      <HStack flexWrap="wrap" justify="space-between" mb={1}>
        <Text as="h3" fontSize="sm" fontWeight="medium">
          {t("Next {n} hours", { n: schedule.hours })}
          <Text as="span" color="fg.muted" fontWeight="normal">
            {" "}
            {schedule.rows.length === 0
              ? t("no run of a DAG with jobs is scheduled")
              : plural(schedule.runs, "≈ {usd} for {n} run, at the median of each DAG’s last runs", "≈ {usd} for {n} runs, at the median of each DAG’s last runs", {
                  usd: usd(schedule.usd),
                })}
          </Text>
        </Text>
        <Paging limit={LINES} offset={offset} onChange={setOffset} total={schedule.rows.length} />
      </HStack>
      {schedule.rows.length > 0 ? (
        <Table.Root aria-label={t("Next runs")} css={{ tableLayout: "fixed" }} size="sm" w="100%">
          <Table.Header>
            <Table.Row>
              <Table.ColumnHeader scope="col">{t("DAG")}</Table.ColumnHeader>
              <Table.ColumnHeader css={hiddenBelow(ROOM)} scope="col" w="150px">
                {t("Next run")}
              </Table.ColumnHeader>
              <Table.ColumnHeader scope="col" textAlign="end" w="64px">
                {t("Runs")}
              </Table.ColumnHeader>
              <Table.ColumnHeader scope="col" textAlign="end" w="110px">
                {t("Expected cost")}
              </Table.ColumnHeader>
            </Table.Row>
          </Table.Header>
          <Table.Body fontVariantNumeric="tabular-nums">
            {schedule.rows.slice(offset, offset + LINES).map(({ at, dag_id, runs, usd: cost }) => (
              <Table.Row key={dag_id}>
                <Table.Cell title={dag_id}>
                  <Text {...TWO_LINES}>
                    <Words>{dag_id}</Words>
                  </Text>
                </Table.Cell>
                <Table.Cell css={hiddenBelow(ROOM)}>
                  <Moment iso={at} />
                </Table.Cell>
                <Table.Cell textAlign="end">
                  {count(runs)}
                </Table.Cell>
                <Table.Cell textAlign="end">{cost === null ? <Nothing /> : <Ltr>≈ {usd(cost)}</Ltr>}</Table.Cell>
              </Table.Row>
            ))}
          </Table.Body>
        </Table.Root>
      ) : undefined}
    </Box>
  );
};
