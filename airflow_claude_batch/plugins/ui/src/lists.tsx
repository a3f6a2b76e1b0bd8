/** The lists: what is in flight, and what is over. */
import { Badge, Box, Stack, Table, Text } from "@chakra-ui/react";

import { nameOf, type Job } from "./api";
import { compact, count, duration, percent, secondsBetween, usd } from "./format";
import { Grid, Head, Right, Row, hiddenBelow, shownBelow, type Column, type ListProps } from "./grid";
import { OutcomeBar, outcomeText } from "./outcomes";
import { Age, DeadlineBar, DirectSoFar, FailedTask, GoingDirectBadge, JobName, JobStateBadge, LateBadge, Ltr, Moment, Nothing, Number } from "./parts";
import { plural, t } from "./text";

const Money = ({ value }: { readonly value: number | null | undefined }) =>
  value === null || value === undefined ? <Nothing /> : <Ltr>{usd(value)}</Ltr>;

const STATE: Column = { name: "State", narrow: "124px", w: "116px" };
/** Below this width, state has below it what the next columns would say. */
const ROOM = 480;

const IN_FLIGHT: Column[] = [
  { name: "Job" },
  STATE,
  { from: 620, name: "Batches ended", number: true, w: "92px" },
  { from: 980, name: "Requests", number: true, w: "104px" },
  { from: 1100, name: "Model", w: "150px" },
  { from: 700, name: "Age", number: true, w: "112px" },
  { from: ROOM, name: "Deadline", w: "160px" },
  { from: 860, name: "Estimated cost", number: true, w: "100px" },
];

type InFlightProps = ListProps & { readonly usual: Record<string, number> | undefined };

export const InFlightList = ({ hrefOf, jobs, onOpen, usual }: InFlightProps) => (
  <Grid label={t("Jobs in flight")}>
    <Head columns={IN_FLIGHT} />
    <Table.Body>
      {jobs.map((job) => {
        const seconds = usual?.[job.dag_id];

        return (
          <Row hrefOf={hrefOf} job={job} key={nameOf(job)} onOpen={onOpen}>
            <Table.Cell>
              <JobName job={job} />
            </Table.Cell>
            <Table.Cell>
              <States job={job} />
              {job.pause ? (
                <Box color="fg.muted" fontSize="xs" whiteSpace="normal">
                  <Text lineClamp={3} title={job.pause.reason}>
                    {job.pause.reason}
                  </Text>
                  {job.pause.until === null ? undefined : (
                    <>
                      {t("goes on")} <Moment iso={job.pause.until} />
                    </>
                  )}
                </Box>
              ) : undefined}
              <Box color="fg.muted" css={shownBelow(ROOM)} fontSize="xs" mt={1}>
                {t("Age")} <Age iso={job.submitted_at ?? job.announced_at} />
                {job.submitted_at === null ? undefined : <DeadlineBar job={job} />}
              </Box>
            </Table.Cell>
            <Right from={620}>{job.batches > 0 ? <Ltr>{`${count(job.batches_ended)} / ${count(job.batches)}`}</Ltr> : <Nothing />}</Right>
            <Right from={980}>{job.requests === null ? <Nothing /> : <Number value={job.requests} />}</Right>
            <Model from={1100} job={job} />
            <Right from={700}>
              <Age iso={job.submitted_at ?? job.announced_at} />
              {seconds === undefined ? undefined : (
                <Text color="fg.muted" fontSize="xs">
                  {t("usually {span}", { span: duration(seconds) })}
                </Text>
              )}
            </Right>
            <Table.Cell css={hiddenBelow(ROOM)}>
              <DeadlineBar job={job} />
            </Table.Cell>
            <Right from={860}>
              <Money value={job.estimate?.total_usd} />
            </Right>
          </Row>
        );
      })}
    </Table.Body>
  </Grid>
);

const States = ({ job }: { readonly job: Job }) => (
  <Stack alignItems="start" gap={1}>
    {job.going_direct ? <GoingDirectBadge job={job} /> : <JobStateBadge state={job.state} />}
    <LateBadge job={job} />
    {job.going_direct ? (
      <Text color="fg.muted" fontSize="xs" whiteSpace="normal">
        <DirectSoFar told={job.going_direct} />
      </Text>
    ) : undefined}
  </Stack>
);

const Model = ({ from, job }: { readonly from: number; readonly job: Job }) => (
  <Table.Cell css={hiddenBelow(from)} title={job.model ?? t("named by each request")}>
    <Text truncate>{job.model ?? t("by request")}</Text>
  </Table.Cell>
);

const RECENT: Column[] = [
  { name: "Job" },
  STATE,
  { from: 560, name: "Outcome", w: "184px" },
  { from: 980, name: "Requests", number: true, w: "92px" },
  { from: 760, name: "Submitted", w: "140px" },
  { from: 860, name: "Duration", number: true, w: "112px" },
  { from: 1240, name: "Tokens in / out", number: true, w: "116px" },
  { from: 1340, name: "Cache hits", number: true, w: "76px" },
  { from: 1100, name: "Model", w: "140px" },
  { from: ROOM, name: "Cost", number: true, w: "92px" },
];

export const RecentList = ({ hrefOf, jobs, onOpen }: ListProps) => (
  <Grid label={t("Recent jobs")}>
    <Head columns={RECENT} />
    <Table.Body>
      {jobs.map((job) => (
        <Row hrefOf={hrefOf} job={job} key={nameOf(job)} onOpen={onOpen}>
          <Table.Cell>
            <JobName job={job} />
          </Table.Cell>
          <Table.Cell>
            <States job={job} />
            <Box color="fg.muted" css={shownBelow(ROOM)} fontSize="xs" mt={1}>
              <Moment iso={job.submitted_at ?? job.announced_at} />
              <Box>
                <Cost job={job} />
              </Box>
            </Box>
          </Table.Cell>
          <Table.Cell css={hiddenBelow(560)}>
            <OutcomeCell job={job} />
          </Table.Cell>
          <Right from={980}>{job.requests === null ? <Nothing /> : <Number value={job.requests} />}</Right>
          <Table.Cell css={hiddenBelow(760)}>
            <Moment iso={job.submitted_at} />
          </Table.Cell>
          <Right from={860}>
            {job.submitted_at !== null && job.delivered_at !== null ? (
              <Ltr>{duration(secondsBetween(job.submitted_at, job.delivered_at))}</Ltr>
            ) : (
              <Nothing />
            )}
          </Right>
          <Right from={1240}>
            {job.usage ? <Ltr>{`${compact(tokensIn(job))} / ${compact(job.usage.output_tokens)}`}</Ltr> : <Nothing />}
          </Right>
          <Right from={1340}>
            {typeof job.cache_hit_rate === "number" ? <Ltr>{percent(job.cache_hit_rate)}</Ltr> : <Nothing />}
          </Right>
          <Model from={1100} job={job} />
          <Right from={ROOM}>
            <Cost job={job} />
          </Right>
        </Row>
      ))}
    </Table.Body>
  </Grid>
);

export const tokensIn = (job: Job): number =>
  job.usage
    ? job.usage.input_tokens + job.usage.cache_creation_input_tokens + job.usage.cache_read_input_tokens
    : 0;

const OutcomeCell = ({ job }: { readonly job: Job }) => {
  if (!job.counts) {
    return (
      <Text color="fg.muted" fontSize="xs" whiteSpace="normal">
        {job.unreadable.length > 0 ? t("cannot be read") : job.batches > 0 ? t("no results delivered") : t("no batch known")}
        <FailedTask job={job} says="; {log} says why" />
      </Text>
    );
  }
  const failed = job.counts.total - job.counts.succeeded;

  return (
    <Box title={outcomeText(job.counts)}>
      <OutcomeBar counts={job.counts} />
      <Text color="fg.muted" fontSize="xs" fontVariantNumeric="tabular-nums" mt={1} truncate>
        {job.counts.total === 0 ? t("no requests") : failed === 0 ? t("all succeeded") : plural(failed, "{n} request did not succeed", "{n} requests did not succeed")}
      </Text>
      {job.main_error ? (
        <Text color="fg.muted" fontSize="xs" truncate>
          {job.main_error.count < failed ? t("mostly {type}", { type: job.main_error.type }) : job.main_error.type}
        </Text>
      ) : undefined}
      {job.reused ? (
        <Text color="fg.muted" fontSize="xs" truncate>
          {plural(job.reused, "{n} answer reused", "{n} answers reused")}
        </Text>
      ) : undefined}
      {job.warnings ? (
        <Text color="fg.warning" fontSize="xs" truncate>
          {plural(job.warnings, "{n} warning", "{n} warnings")}
        </Text>
      ) : undefined}
    </Box>
  );
};

const Cost = ({ job }: { readonly job: Job }) => (
  <>
    {job.counts === undefined && job.batches > 0 && typeof job.estimate?.total_usd === "number" ? (
      <Text as="span" title={t("Nothing was delivered: this is the estimate of what was sent")}>
        <Ltr>≈ {usd(job.estimate.total_usd)}</Ltr>
      </Text>
    ) : (
      <Money value={job.cost?.total_usd} />
    )}
    {job.paid_before && job.paid_before.usd > 0 ? (
      <Text color="fg.muted" fontSize="xs" title={t("Jobs that a clear with other requests has replaced")}>
        <Ltr>{t("+ {usd} before", { usd: usd(job.paid_before.usd) })}</Ltr>
      </Text>
    ) : undefined}
    {job.cost && job.cost.unpriced_requests > 0 ? (
      <Badge
        ms={1}
        size="xs"
        title={plural(
          job.cost.unpriced_requests,
          "{n} request of a model without a known price",
          "{n} requests of models without a known price",
        )}
      >
        {t("partly")}
      </Badge>
    ) : undefined}
  </>
);
