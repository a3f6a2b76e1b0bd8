/** What requests met instead of an answer, over all jobs of some days. */
import { Box, Table, Text } from "@chakra-ui/react";
import { useState } from "react";

import type { Totals } from "./api";
import { hiddenBelow, shownBelow } from "./grid";
import { Number, Paging, Section, TWO_LINES, Words } from "./parts";
import { t } from "./text";

const LINES = 10;
/** From this width on, DAG and model have columns of their own; below it they are lines below the type. */
const ROOM = 600;

export const Errors = ({ totals }: { readonly totals: Totals }) => {
  const [offset, setOffset] = useState(0);

  return totals.errors.length === 0 ? undefined : (
    <Section
      aside={<Paging limit={LINES} offset={offset} onChange={setOffset} total={totals.errors.length} />}
      note={t("7 days, by type, DAG and model; refusals and cut-off answers with them")} title={t("Errors")}>
      <Box borderRadius="md" borderWidth="1px" css={{ containerType: "inline-size" }} overflow="hidden">
        <Table.Root aria-label={t("Errors")} css={{ tableLayout: "fixed" }} size="sm" w="100%">
          <Table.Header>
            <Table.Row>
              <Table.ColumnHeader scope="col">{t("Type")}</Table.ColumnHeader>
              <Table.ColumnHeader css={hiddenBelow(ROOM)} scope="col">
                {t("DAG")}
              </Table.ColumnHeader>
              <Table.ColumnHeader css={hiddenBelow(ROOM)} scope="col">
                {t("Model")}
              </Table.ColumnHeader>
              <Table.ColumnHeader scope="col" textAlign="end" w="96px">
                {t("Requests")}
              </Table.ColumnHeader>
              <Table.ColumnHeader css={hiddenBelow(ROOM)} scope="col" textAlign="end" w="72px">
                {t("Jobs")}
              </Table.ColumnHeader>
            </Table.Row>
          </Table.Header>
          <Table.Body fontVariantNumeric="tabular-nums">
            {totals.errors.slice(offset, offset + LINES).map((row) => (
              <Line key={`${row.type} ${row.dag_id} ${row.model}`} row={row} />
            ))}
          </Table.Body>
        </Table.Root>
      </Box>
    </Section>
  );
};

const Line = ({ row: { dag_id, jobs, model, requests, type } }: { readonly row: Totals["errors"][number] }) => {
  const asked = model || t("named by each request");

  return (
    <Table.Row>
      <Table.Cell>
        <Name bold text={type} />
        <Box color="fg.muted" css={shownBelow(ROOM)} fontSize="xs">
          <Name text={dag_id} />
          <Name text={asked} />
        </Box>
      </Table.Cell>
      <Table.Cell css={hiddenBelow(ROOM)}>
        <Name text={dag_id} />
      </Table.Cell>
      <Table.Cell css={hiddenBelow(ROOM)}>
        <Name text={asked} />
      </Table.Cell>
      <Table.Cell textAlign="end">
        <Number value={requests} />
      </Table.Cell>
      <Table.Cell css={hiddenBelow(ROOM)} textAlign="end">
        <Number value={jobs} />
      </Table.Cell>
    </Table.Row>
  );
};

const Name = ({ bold = false, text }: { readonly bold?: boolean; readonly text: string }) => (
  <Text {...TWO_LINES} fontWeight={bold ? "medium" : undefined} title={text}>
    <Words>{text}</Words>
  </Text>
);
