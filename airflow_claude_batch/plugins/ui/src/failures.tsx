/** The first failed records of a job, read from its output when they are asked for. */
import { Box, Button, HStack, Skeleton, Stack, Table, Text } from "@chakra-ui/react";
import { useState } from "react";

import { keyOf, useApi, type Failure, type Failures, type JobDetails } from "./api";
import { Block } from "./blocks";
import { csv, save } from "./files";
import { count } from "./format";
import { Ltr, Note, Nothing } from "./parts";
import { plural, t } from "./text";

export const FailedRecords = ({ job }: { readonly job: JobDetails }) => {
  const [wanted, setWanted] = useState(false);
  const { data, error, loading, reload } = useApi<Failures>(wanted ? "failures" : null, keyOf(job));

  if (!job.counts || job.counts.total === job.counts.succeeded) {
    return undefined;
  }

  return (
    <Block title={t("Failed records")}>
      {wanted ? undefined : (
        <HStack gap={3}>
          <Button onClick={() => setWanted(true)} size="xs" variant="outline">
            {t("Show the first 100")}
          </Button>
          <Text color="fg.muted" fontSize="xs">
            {t("They are read from the job’s output.")}
          </Text>
        </HStack>
      )}
      {wanted && loading && error === undefined ? <Skeleton h="80px" /> : undefined}
      {error === undefined ? undefined : (
        <Stack alignItems="start" gap={2}>
          <Note>{error}</Note>
          <Button onClick={reload} size="xs" variant="outline">
            {t("Try again")}
          </Button>
        </Stack>
      )}
      {data && error === undefined ? <Records failures={data} job={job} /> : undefined}
    </Block>
  );
};

const FIELDS = ["custom_id", "outcome", "type", "message", "request_id", "retryable"] as const;

const Records = ({ failures, job }: { readonly failures: Failures; readonly job: JobDetails }) => {
  const { columns, cut, records } = failures;
  const failed = (job.counts?.total ?? 0) - (job.counts?.succeeded ?? 0);
  const name = `${job.dag_id}-failed`;
  const asCsv = () =>
    csv([
      [...FIELDS, ...columns],
      ...records.map((record) => [
        ...FIELDS.map((field) => (record[field] === null ? "" : String(record[field]))),
        ...columns.map((column) => record.columns[column] ?? ""),
      ]),
    ]);
  const asLines = () => records.map((record) => `${JSON.stringify(record)}\n`).join("");

  return (
    <Stack gap={2}>
      <HStack flexWrap="wrap" justify="space-between">
        <Text color="fg.muted" fontSize="xs" role="status">
          {plural(records.length, "{n} record", "{n} records")}
          {records.length < failed ? ` ${t("of {total}", { total: count(failed) })}` : ""}
          {cut ? `. ${t("Reading ended early: they are large, or the store is slow.")}` : ""}
        </Text>
        <HStack>
          <Button onClick={() => save(`${name}.csv`, asCsv())} size="xs" variant="outline">
            CSV
          </Button>
          <Button onClick={() => save(`${name}.jsonl`, asLines(), "application/x-ndjson")} size="xs" variant="outline">
            JSONL
          </Button>
        </HStack>
      </HStack>
      <Box aria-label={t("Failed records")} borderRadius="md" borderWidth="1px" maxH="420px" overflow="auto" role="region" tabIndex={0}>
        <Table.Root aria-label={t("Failed records")} size="sm" stickyHeader>
          <Table.Header>
            <Table.Row>
              <Table.ColumnHeader scope="col">custom_id</Table.ColumnHeader>
              <Table.ColumnHeader scope="col">{t("What happened")}</Table.ColumnHeader>
              {columns.map((column) => (
                <Table.ColumnHeader key={column} scope="col">
                  {column}
                </Table.ColumnHeader>
              ))}
            </Table.Row>
          </Table.Header>
          <Table.Body>
            {records.map((record) => (
              <Table.Row key={record.custom_id} verticalAlign="top">
                <Table.Cell fontFamily="mono" fontSize="xs" maxW="220px" overflowWrap="anywhere" title={record.custom_id} whiteSpace="normal">
                  <Ltr>{record.custom_id}</Ltr>
                </Table.Cell>
                <Table.Cell minW="200px" whiteSpace="normal">
                  <Happened record={record} />
                </Table.Cell>
                {columns.map((column) => (
                  <Table.Cell fontSize="xs" key={column} maxW="220px" overflowWrap="anywhere" whiteSpace="normal">
                    {record.columns[column] ?? <Nothing />}
                  </Table.Cell>
                ))}
              </Table.Row>
            ))}
          </Table.Body>
        </Table.Root>
      </Box>
    </Stack>
  );
};

const Happened = ({ record }: { readonly record: Failure }) => (
  <>
    <Text fontSize="sm" fontWeight="medium">
      {record.type}
      {record.type === record.outcome ? "" : ` (${t(record.outcome)})`}
    </Text>
    <Text color="fg.muted" fontSize="xs" overflowWrap="anywhere">
      {record.message ?? t("What was said about it may quote the request or its answer: see the job’s output.")}
      {record.request_id === null ? "" : ` (${record.request_id})`}
    </Text>
  </>
);
