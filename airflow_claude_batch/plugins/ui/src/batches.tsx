/** A job's batches, by page: it may have a thousand. */
import { Box, HStack, NativeSelect, Table, Text } from "@chakra-ui/react";
import { useState } from "react";

import { keyOf, useApi, type Batch, type BatchPage, type JobDetails } from "./api";
import { Block } from "./blocks";
import { hiddenBelow, shownBelow } from "./grid";
import { ErrorNote, Ltr, Moment, Nothing, Number, OutsideLink, Paging } from "./parts";
import { plural, t } from "./text";

const BATCHES = 20;
/** From this width on, what is known of a batch has columns of its own; below it stands below its id. */
const ROOM = 700;

export const Batches = ({ job }: { readonly job: JobDetails }) => {
  const [offset, setOffset] = useState(0);
  const [state, setState] = useState("");
  const first = offset === 0 && state === "";
  const params = { ...keyOf(job), limit: BATCHES, offset, state };
  const asked = useApi<BatchPage>(first ? null : "batches", params);
  const batches = first ? job.batch_list : asked.data?.batches;
  // Before results are delivered, three columns would be empty.
  const known = batches?.some((batch) => batch.requests !== null || batch.created_at !== null || batch.ended_at !== null) === true;
  const total = first ? job.batches : (asked.data?.total ?? 0);

  return job.batches === 0 ? undefined : (
    <Block title={plural(job.batches, "{n} batch", "{n} batches")}>
      {job.batches > BATCHES ? (
        <HStack flexWrap="wrap" justify="space-between" mb={2}>
          <NativeSelect.Root size="xs" w="140px">
            <NativeSelect.Field
              aria-label={t("Batches")}
              onChange={(event) => {
                setState(event.target.value);
                setOffset(0);
              }}
              value={state}
            >
              <option value="">{t("All")}</option>
              <option value="ended">{t("Seen to end")}</option>
              <option value="open">{t("Not seen to end")}</option>
            </NativeSelect.Field>
            <NativeSelect.Indicator />
          </NativeSelect.Root>
          <Paging limit={BATCHES} offset={offset} onChange={setOffset} total={total} />
        </HStack>
      ) : undefined}
      {asked.error === undefined ? undefined : <ErrorNote>{asked.error}</ErrorNote>}
      <Box borderRadius="md" borderWidth="1px" css={{ containerType: "inline-size" }} overflowX="auto">
        <Table.Root aria-label={t("Batches")} size="sm">
          <Table.Header>
            <Table.Row>
              <Table.ColumnHeader scope="col">{t("Batch")}</Table.ColumnHeader>
              <Table.ColumnHeader scope="col" textAlign="end">
                {t("Round")}
              </Table.ColumnHeader>
              {known ? (
                <>
                  <Table.ColumnHeader css={hiddenBelow(ROOM)} scope="col" textAlign="end">
                    {t("Requests")}
                  </Table.ColumnHeader>
                  <Table.ColumnHeader css={hiddenBelow(ROOM)} scope="col">
                    {t("Created")}
                  </Table.ColumnHeader>
                  <Table.ColumnHeader css={hiddenBelow(ROOM)} scope="col">
                    {t("Ended")}
                  </Table.ColumnHeader>
                </>
              ) : undefined}
            </Table.Row>
          </Table.Header>
          <Table.Body>
            {batches?.map((batch) => (
              <Table.Row key={batch.id}>
                <Table.Cell fontSize="xs" overflowWrap="anywhere">
                  <Text as="span" fontFamily="mono">
                    <OutsideLink href={batch.console_url}>
                      <Ltr>{batch.id}</Ltr>
                    </OutsideLink>
                  </Text>
                  {known ? <Known batch={batch} /> : undefined}
                </Table.Cell>
                <Table.Cell fontVariantNumeric="tabular-nums" textAlign="end">
                  {batch.round + 1}
                </Table.Cell>
                {known ? (
                  <>
                    <Table.Cell css={hiddenBelow(ROOM)} textAlign="end">{batch.requests === null ? <Nothing /> : <Number value={batch.requests} />}</Table.Cell>
                    <Table.Cell css={hiddenBelow(ROOM)}>
                      <Moment iso={batch.created_at} />
                    </Table.Cell>
                    <Table.Cell css={hiddenBelow(ROOM)}>
                      <Moment iso={batch.ended_at} />
                    </Table.Cell>
                  </>
                ) : undefined}
              </Table.Row>
            ))}
          </Table.Body>
        </Table.Root>
      </Box>
      {job.counts === undefined && job.batches_ended > 0 ? (
        <Text color="fg.muted" fontSize="xs" mt={1}>
          {t("Times of each batch are known once results are delivered.")}
        </Text>
      ) : undefined}
    </Block>
  );
};

const Known = ({ batch }: { readonly batch: Batch }) => (
  <Text color="fg.muted" css={shownBelow(ROOM)} whiteSpace="normal">
    {batch.requests === null ? undefined : <>{plural(batch.requests, "{n} request", "{n} requests")} · </>}
    <Moment iso={batch.created_at} /> – <Moment iso={batch.ended_at} />
  </Text>
);
