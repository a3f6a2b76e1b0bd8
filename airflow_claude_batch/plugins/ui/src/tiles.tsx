/** The answers to the first questions, in large type. */
import { Box, SimpleGrid, Text } from "@chakra-ui/react";

import type { Schedule, Sum, Totals } from "./api";
import { count, duration, percent, usdShort } from "./format";
import { goTo } from "./parts";
import { IN_FLIGHT, MONEY, NEXT } from "./places";
import { plural, t } from "./text";

type TileProps = {
  readonly first?: boolean;
  readonly name: string;
  readonly note: string;
  /** The part of the page that says more. */
  readonly to?: string;
  readonly value: string;
};

export const Tile = ({ first = false, name, note, to, value }: TileProps) => (
  <Box
    borderRadius="md"
    borderWidth="1px"
    // Names of one and of two lines stand beside each other: the numbers are on one line.
    css={{ display: "grid", gridRow: "span 3", gridTemplateRows: "subgrid", rowGap: 0 }}
    gridColumn={first ? { base: "span 2", md: "auto" } : undefined}
    minW={0}
    position="relative"
    px={4}
    py={3}
  >
    <Text color="fg.muted" fontSize="xs">
      {to === undefined ? (
        name
      ) : (
        <Box
          // The whole tile can be clicked.
          _after={{ content: '""', inset: 0, position: "absolute" }}
          as="button"
          cursor="pointer"
          onClick={() => goTo(to)}
          textAlign="start"
        >
          {name}
          {"\u00a0"}
          <span aria-hidden>↓</span>
        </Box>
      )}
    </Text>
    <Text fontSize="2xl" fontVariantNumeric="tabular-nums" fontWeight="semibold" lineHeight="short" title={value} truncate>
      {value}
    </Text>
    <Text color="fg.muted" fontSize="xs" fontVariantNumeric="tabular-nums" overflowWrap="anywhere">
      {note}
    </Text>
  </Box>
);

export const costOf = (sum: Sum): string =>
  sum.jobs > 0 && sum.unpriced_jobs === sum.jobs
    ? t("unknown")
    : `${sum.estimated_usd > 0 ? "≈ " : ""}${usdShort(sum.cost_usd)}`;

const noteOf = (sum: Sum): string =>
  sum.jobs === 0
    ? t("nothing submitted")
    : [
        t("{usd} saved", { usd: usdShort(sum.saved_usd) }),
        sum.saved_by_reuse_usd > 0 ? t("{usd} by reuse", { usd: usdShort(sum.saved_by_reuse_usd) }) : "",
        plural(sum.jobs, "{n} job", "{n} jobs"),
        sum.failed > 0 ? t("{n} failed", { n: count(sum.failed) }) : "",
        sum.late > 0 ? t("{n} late", { n: count(sum.late) }) : "",
      ]
        .filter(Boolean)
        .join(" · ");

export const inFlightNote = (sum: Sum): string =>
  sum.cost_usd > 0
    ? plural(sum.jobs, "job, ≈ {usd} estimated", "jobs, ≈ {usd} estimated", { usd: usdShort(sum.cost_usd) })
    : plural(sum.jobs, "job", "jobs");

const expectedCost = ({ rows, unknown, usd }: Schedule): string =>
  rows.length === 0 ? "–" : unknown === rows.length ? t("unknown") : `≈ ${usdShort(usd)}`;

const expectedNote = ({ rows, runs, unknown }: Schedule): string =>
  rows.length === 0
    ? t("no run of a DAG with jobs is scheduled")
    : [
        plural(runs, "{n} scheduled run", "{n} scheduled runs"),
        unknown > 0 ? plural(unknown, "without {n} DAG of unknown cost", "without {n} DAGs of unknown cost") : "",
      ]
        .filter(Boolean)
        .join(", ");

type TilesProps = {
  readonly attention: number | undefined;
  /** What is scheduled: null until it is known; where it is not shown, undefined. */
  readonly next?: Schedule | null;
  readonly totals: Totals;
};

export const Tiles = ({ attention, next, totals }: TilesProps) => {
  const { all, batch_seconds: batches, in_flight: inFlight, last_24_hours: lastDay } = totals;

  return (
    <SimpleGrid columns={next === undefined ? { base: 2, md: 3, xl: 6 } : { base: 2, md: 4, xl: 7 }} gap={3}>
      <Tile
        first={next !== undefined}
        name={t("Needs attention")}
        note={t("in flight, or of the last 24 hours")}
        value={attention === undefined ? "–" : count(attention)}
      />
      <Tile name={t("In flight now")} note={inFlightNote(inFlight)} to={next === undefined ? undefined : IN_FLIGHT} value={count(inFlight.jobs)} />
      <Tile name={t("Cost, submitted in 24 hours")} note={noteOf(lastDay)} value={costOf(lastDay)} />
      {next === undefined ? undefined : (
        <Tile
          name={t("Expected cost, next {n} hours", { n: next?.hours ?? 24 })}
          note={next === null ? "" : expectedNote(next)}
          to={NEXT}
          value={next === null ? "–" : expectedCost(next)}
        />
      )}
      <Tile name={t("Cost, submitted in 30 days")} note={noteOf(all)} to={next === undefined ? undefined : MONEY} value={costOf(all)} />
      <Tile
        name={t("Requests succeeded")}
        note={
          lastDay.requests_over > 0
            ? t("{succeeded} of {total} in jobs that are over, 24 hours", {
                succeeded: count(lastDay.succeeded),
                total: count(lastDay.requests_over),
              })
            : t("no job is over")
        }
        value={lastDay.requests_over > 0 ? percent(lastDay.succeeded / lastDay.requests_over) : "–"}
      />
      <Tile
        name={t("Batch duration, median")}
        note={
          batches.p95 === null
            ? t("no batch with known times")
            : t("95% within {span}, 30 days", { span: duration(batches.p95) })
        }
        value={batches.median === null ? "–" : duration(batches.median)}
      />
    </SimpleGrid>
  );
};
