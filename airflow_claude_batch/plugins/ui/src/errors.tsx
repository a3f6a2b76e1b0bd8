/** What requests met instead of an answer, over all jobs of some days. */
import { Box, Table, Text } from "@chakra-ui/react";
import { useState } from "react";

import type { Totals } from "./api";
import { Number, Paging, Section } from "./parts";
import { t } from "./text";

const LINES = 10;

export const Errors = ({ totals }: { readonly totals: Totals }) => {
  const [offset, setOffset] = useState(0);

  return totals.errors.length === 0 ? undefined : (
    <Section
      aside={<Paging limit={LINES} offset={offset} onChange={setOffset} total={totals.errors.length} />}
      note={t("7 days, by type, DAG and model; refusals and cut-off answers with them")} title={t("Errors")}>
      <Box borderRadius="md" borderWidth="1px" overflow="hidden">
        <Table.Root aria-label={t("Errors")} css={{ tableLayout: "fixed" }} size="sm" w="100%">
          <Table.Header>
            <Table.Row>
              <Table.ColumnHeader scope="col">{t("Type")}</Table.ColumnHeader>
              <Table.ColumnHeader scope="col">{t("DAG")}</Table.ColumnHeader>
              <Table.ColumnHeader hideBelow="md" scope="col">
                {t("Model")}
              </Table.ColumnHeader>
              <Table.ColumnHeader scope="col" textAlign="end" w="96px">
                {t("Requests")}
              </Table.ColumnHeader>
              <Table.ColumnHeader hideBelow="md" scope="col" textAlign="end" w="72px">
                {t("Jobs")}
              </Table.ColumnHeader>
            </Table.Row>
          </Table.Header>
          <Table.Body fontVariantNumeric="tabular-nums">
            {totals.errors.slice(offset, offset + LINES).map(({ dag_id, jobs, model, requests, type }) => (
              <Table.Row key={`${type} ${dag_id} ${model}`}>
                <Table.Cell fontWeight="medium" title={type}>
                  <Text truncate>{type}</Text>
                </Table.Cell>
                <Table.Cell title={dag_id}>
                  <Text truncate>{dag_id}</Text>
                </Table.Cell>
                <Table.Cell hideBelow="md" title={model}>
                  <Text truncate>{model || t("named by each request")}</Text>
                </Table.Cell>
                <Table.Cell textAlign="end">
                  <Number value={requests} />
                </Table.Cell>
                <Table.Cell hideBelow="md" textAlign="end">
                  <Number value={jobs} />
                </Table.Cell>
              </Table.Row>
            ))}
          </Table.Body>
        </Table.Root>
      </Box>
    </Section>
  );
};
