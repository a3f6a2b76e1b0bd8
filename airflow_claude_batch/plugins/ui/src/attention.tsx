/** What needs attention, the worst first: why, and what to do. */
import { Badge, Box, Button, Table, Text } from "@chakra-ui/react";
import { useState } from "react";

import { nameOf, type Attention, type JobKey, type Reason } from "./api";
import { count, duration } from "./format";
import { Grid, Head, Right, Row, hiddenBelow, shownBelow, type Column } from "./grid";
import { Age, FailedTask, JobName, Section } from "./parts";
import { plural, t } from "./text";

const KIND_NAMES: Record<string, { name: string; palette: string }> = {
  failed: { name: "Failed", palette: "red" },
  late: { name: "Late", palette: "red" },
  overdue: { name: "Overdue", palette: "red" },
  partial: { name: "Many failures", palette: "orange" },
  paused: { name: "Paused long", palette: "orange" },
  refused: { name: "Not sent", palette: "red" },
  slow: { name: "Slow", palette: "orange" },
  submitting: { name: "Stuck", palette: "orange" },
  unreadable: { name: "Cannot be read", palette: "gray" },
};

/** From this width on, what happened has a column of its own. */
const ROOM = 520;

const COLUMNS: Column[] = [
  { name: "Job" },
  { name: "Why", narrow: "152px", w: "128px" },
  { from: ROOM, name: "What happened, and what to do", w: "48%" },
  { from: 700, name: "Age", number: true, w: "112px" },
];

/** In this language, with its numbers. */
const said = ({ says, values }: Reason): string =>
  t(
    says,
    Object.fromEntries(
      Object.entries(values).map(([name, value]) => [
        name,
        "seconds" in value ? duration(value.seconds) : "count" in value ? count(value.count) : value.text,
      ]),
    ),
    // Some languages end an abbreviated unit with a full stop of its own.
  ).replace(/\.\.$/u, ".");

/** What happened, where to read on, and what to do. */
const Said = ({ job }: { readonly job: Attention["jobs"][number] }) => (
  <>
    <Text lineClamp={6} overflowWrap="anywhere" title={said(job.reason)}>
      {said(job.reason)}
    </Text>
    <Text>
      <FailedTask job={job} says="See {log} for why." />
    </Text>
    <Text color="fg.muted" fontSize="xs">
      {t(job.reason.advice)}
    </Text>
  </>
);

type Props = {
  readonly attention: Attention;
  readonly hrefOf: (key: JobKey) => string;
  readonly onOpen: (key: JobKey) => void;
  readonly scope: string | undefined;
};

const FIRST = 5;

export const NeedsAttention = ({ attention, hrefOf, onOpen, scope }: Props) => {
  const [all, setAll] = useState(false);
  const jobs = all ? attention.jobs : attention.jobs.slice(0, FIRST);
  const total = plural(attention.total, "{n} job", "{n} jobs");

  return (
    <Section
      aside={
        attention.jobs.length > FIRST ? (
          <Button onClick={() => setAll(!all)} size="xs" variant="outline">
            {all ? t("Only {n}", { n: FIRST }) : t("All {n}", { n: count(attention.jobs.length) })}
          </Button>
        ) : undefined
      }
      note={
        scope === undefined
          ? t("{jobs}, in flight or of the last 24 hours", { jobs: total })
          : t("{jobs} of {dag}, in flight or of the last 24 hours", { dag: scope, jobs: total })
      }
      title={t("Needs attention")}
    >
      <Grid label={t("Needs attention")}>
        <Head columns={COLUMNS} />
        <Table.Body>
          {jobs.map((job) => (
            <Row hrefOf={hrefOf} job={job} key={nameOf(job)} onOpen={onOpen}>
              <Table.Cell>
                <JobName job={job} />
              </Table.Cell>
              <Table.Cell>
                <Badge colorPalette={KIND_NAMES[job.reason.kind]?.palette ?? "gray"} variant="surface" whiteSpace="nowrap">
                  {t(KIND_NAMES[job.reason.kind]?.name ?? job.reason.kind)}
                </Badge>
                <Box css={shownBelow(ROOM)} fontSize="xs" mt={1} whiteSpace="normal">
                  <Said job={job} />
                </Box>
              </Table.Cell>
              <Table.Cell css={hiddenBelow(ROOM)} whiteSpace="normal">
                <Said job={job} />
              </Table.Cell>
              <Right from={700}>
                <Age iso={job.submitted_at ?? job.announced_at} />
              </Right>
            </Row>
          ))}
        </Table.Body>
      </Grid>
      {attention.looked_at_all ? undefined : (
        <Text color="fg.muted" fontSize="xs" mt={2}>
          {t("There are more jobs than could be looked at: filter by DAG to see the others.")}
        </Text>
      )}
    </Section>
  );
};
