/** The last 30 days: what they cost by day and DAG, what was saved, and what became of the requests. */
import { Box, HStack, SimpleGrid, Stack, Table, Text } from "@chakra-ui/react";
import { useEffect, useRef, useState } from "react";

import type { Counts, Sum, Totals } from "./api";
import { count, duration, percent, plural, usd, usdShort } from "./format";
import { Nothing, Number, OutcomeBar, OutcomeLegend, Section } from "./parts";

const COLORS = ["blue", "teal", "purple", "orange", "pink", "cyan"].map((hue) => `var(--chakra-colors-${hue}-500)`);
const OTHERS = "var(--chakra-colors-gray-500)";
const HEIGHT = 200;
const MARGIN = { bottom: 22, left: 56, right: 18, top: 10 };

const add = (one: Sum, other: Sum): Sum => ({
  cost_usd: one.cost_usd + other.cost_usd,
  jobs: one.jobs + other.jobs,
  requests: one.requests + other.requests,
  saved_usd: one.saved_usd + other.saved_usd,
  succeeded: one.succeeded + other.succeeded,
  unpriced_jobs: one.unpriced_jobs + other.unpriced_jobs,
});
const NONE: Sum = { cost_usd: 0, jobs: 0, requests: 0, saved_usd: 0, succeeded: 0, unpriced_jobs: 0 };

type Group = { color: string; dagIds: Set<string>; name: string; sum: Sum };

/** The DAGs that cost most have a color each; the rest share one. */
const groupsOf = (totals: Totals): Group[] => {
  const byDag = new Map<string, Sum>();

  for (const row of totals.by_day) {
    byDag.set(row.dag_id, add(byDag.get(row.dag_id) ?? NONE, row));
  }
  const sorted = [...byDag.entries()].sort(([, one], [, other]) => other.cost_usd - one.cost_usd || other.jobs - one.jobs);
  const own = sorted.slice(0, sorted.length > COLORS.length ? COLORS.length - 1 : COLORS.length);
  const rest = sorted.slice(own.length);
  const groups = own.map(([name, sum], index) => ({
    color: COLORS[index] ?? OTHERS,
    dagIds: new Set([name]),
    name,
    sum,
  }));

  return rest.length === 0
    ? groups
    : [
        ...groups,
        {
          color: OTHERS,
          dagIds: new Set(rest.map(([name]) => name)),
          name: `${count(rest.length)} other DAGs`,
          sum: rest.map(([, sum]) => sum).reduce(add, NONE),
        },
      ];
};

/** A round number at or above the value, and round steps up to it. */
const scale = (value: number): number[] => {
  if (value <= 0) {
    return [0, 1];
  }
  const rough = value / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;

  return Array.from({ length: Math.ceil(value / step) + 1 }, (_, index) => index * step);
};

const useWidth = () => {
  const ref = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(720);

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.max(entry.contentRect.width, 280)));

    if (ref.current) {
      observer.observe(ref.current);
    }

    return () => observer.disconnect();
  }, []);

  return { ref, width };
};

const CostChart = ({ groups, totals }: { readonly groups: Group[]; readonly totals: Totals }) => {
  const { ref, width } = useWidth();
  const days = totals.days.map((day) => {
    const rows = totals.by_day.filter((row) => row.day === day);
    const parts = groups.map((group) => ({
      group,
      sum: rows.filter((row) => group.dagIds.has(row.dag_id)).reduce<Sum>(add, NONE),
    }));

    return { day, parts, sum: rows.reduce<Sum>(add, NONE) };
  });
  const ticks = scale(Math.max(...days.map(({ sum }) => sum.cost_usd + sum.saved_usd)));
  const top = ticks.at(-1) ?? 1;
  const inner = { height: HEIGHT - MARGIN.top - MARGIN.bottom, width: width - MARGIN.left - MARGIN.right };
  const step = inner.width / days.length;
  const bar = Math.min(step * 0.7, 26);
  const y = (value: number) => MARGIN.top + inner.height * (1 - value / top);
  const labelEvery = Math.ceil(64 / step);

  return (
    <Box color="fg.muted" fontSize="11px" ref={ref} w="100%">
      <svg
        aria-label={`Cost by day: ${usd(totals.all.cost_usd)} in ${days.length} days, ${usd(totals.all.saved_usd)} saved`}
        height={HEIGHT}
        role="img"
        style={{ display: "block", fontVariantNumeric: "tabular-nums" }}
        viewBox={`0 0 ${width} ${HEIGHT}`}
        width={width}
      >
        {ticks.map((tick) => (
          <g key={tick}>
            <line
              stroke="var(--chakra-colors-border)"
              strokeDasharray={tick === 0 ? undefined : "2 3"}
              x1={MARGIN.left}
              x2={width - MARGIN.right}
              y1={y(tick)}
              y2={y(tick)}
            />
            <text dominantBaseline="middle" fill="currentColor" textAnchor="end" x={MARGIN.left - 8} y={y(tick)}>
              {top >= 4 ? `$${count(tick)}` : usd(tick)}
            </text>
          </g>
        ))}
        {days.map(({ day, parts, sum }, index) => {
          const x = MARGIN.left + step * index + (step - bar) / 2;
          let below = 0;

          return (
            <g key={day}>
              <title>
                {[
                  `${day}: ${usd(sum.cost_usd)}, ${usd(sum.saved_usd)} saved, ${plural(sum.jobs, "job")}`,
                  ...parts.filter((part) => part.sum.jobs > 0).map((part) => `${part.group.name}: ${usd(part.sum.cost_usd)}`),
                ].join("\n")}
              </title>
              <rect fill="transparent" height={inner.height} width={step} x={MARGIN.left + step * index} y={MARGIN.top} />
              <rect
                fill="var(--chakra-colors-border-emphasized)"
                height={y(0) - y(sum.cost_usd + sum.saved_usd)}
                rx={2}
                width={bar}
                x={x}
                y={y(sum.cost_usd + sum.saved_usd)}
              />
              {parts.map(({ group, sum: part }) => {
                const from = below;

                below += part.cost_usd;

                return (
                  <rect fill={group.color} height={y(from) - y(below)} key={group.name} width={bar} x={x} y={y(below)} />
                );
              })}
              {(days.length - 1 - index) % labelEvery === 0 ? (
                <text fill="currentColor" textAnchor="middle" x={x + bar / 2} y={HEIGHT - 6}>
                  {day.slice(5)}
                </text>
              ) : undefined}
            </g>
          );
        })}
      </svg>
    </Box>
  );
};

const Swatch = ({ color }: { readonly color: string }) => (
  <Box borderRadius="xs" display="inline-block" flexShrink={0} h="10px" style={{ background: color }} w="10px" />
);

/** Columns that a telephone has no room for. */
const EXTRA = new Set(["Jobs", "Requests", "Succeeded", "Saved"]);

const DagTable = ({ groups }: { readonly groups: Group[] }) => (
  <Table.ScrollArea>
    <Table.Root aria-label="Cost by DAG" size="sm">
      <Table.Header>
        <Table.Row>
          <Table.ColumnHeader scope="col">DAG</Table.ColumnHeader>
          {["Jobs", "Requests", "Succeeded", "Cost", "Saved"].map((name) => (
            <Table.ColumnHeader hideBelow={EXTRA.has(name) ? "sm" : undefined} key={name} scope="col" textAlign="end">
              {name}
            </Table.ColumnHeader>
          ))}
        </Table.Row>
      </Table.Header>
      <Table.Body fontVariantNumeric="tabular-nums">
        {groups.map(({ color, name, sum }) => (
          <Table.Row key={name}>
            <Table.Cell>
              <HStack gap={2}>
                <Swatch color={color} />
                {name}
              </HStack>
            </Table.Cell>
            <Table.Cell hideBelow="sm" textAlign="end">
              <Number value={sum.jobs} />
            </Table.Cell>
            <Table.Cell hideBelow="sm" textAlign="end">
              <Number value={sum.requests} />
            </Table.Cell>
            <Table.Cell hideBelow="sm" textAlign="end">
              {sum.requests > 0 ? percent(sum.succeeded / sum.requests) : <Nothing />}
            </Table.Cell>
            <Table.Cell textAlign="end">{usd(sum.cost_usd)}</Table.Cell>
            <Table.Cell hideBelow="sm" textAlign="end">
              {usd(sum.saved_usd)}
            </Table.Cell>
          </Table.Row>
        ))}
      </Table.Body>
    </Table.Root>
  </Table.ScrollArea>
);

export const Trends = ({ totals }: { readonly totals: Totals }) => {
  const groups = groupsOf(totals);
  const counts: Counts = { ...totals.outcomes, total: totals.all.requests };

  if (totals.all.jobs === 0) {
    return (
      <Section title="Last 30 days">
        <Text borderRadius="md" borderWidth="1px" color="fg.muted" fontSize="sm" px={4} py={3}>
          Nothing has been delivered. Cost, saving and outcomes are summed up here once it is.
        </Text>
      </Section>
    );
  }

  return (
    <Section title="Last 30 days">
      <Stack borderRadius="md" borderWidth="1px" gap={5} p={4}>
        <Box>
          <HStack flexWrap="wrap" fontSize="sm" gap={4} justify="space-between" mb={2}>
            <Text fontWeight="medium">Cost by day and DAG</Text>
            <HStack color="fg.muted" fontSize="xs" gap={2}>
              <Swatch color="var(--chakra-colors-border-emphasized)" /> saved against standard prices
            </HStack>
          </HStack>
          <CostChart groups={groups} totals={totals} />
        </Box>
        <DagTable groups={groups} />
        <Box>
          <Text fontSize="sm" fontWeight="medium" mb={2}>
            Requests by outcome
          </Text>
          <Stack gap={2}>
            <OutcomeBar counts={counts} height="10px" />
            <OutcomeLegend counts={counts} />
          </Stack>
        </Box>
        {totals.all.unpriced_jobs > 0 || totals.truncated ? (
          <Text color="fg.muted" fontSize="xs">
            {totals.all.unpriced_jobs > 0
              ? `${plural(totals.all.unpriced_jobs, "job")} without a known price ${totals.all.unpriced_jobs === 1 ? "is" : "are"} not in the cost. `
              : ""}
            {totals.truncated ? "Only the newest 50,000 jobs are counted." : ""}
          </Text>
        ) : undefined}
      </Stack>
    </Section>
  );
};

const Tile = ({ name, note, value }: { readonly name: string; readonly note: string; readonly value: string }) => (
  <Box borderRadius="md" borderWidth="1px" px={4} py={3}>
    <Text color="fg.muted" fontSize="xs">
      {name}
    </Text>
    <Text fontSize="2xl" fontVariantNumeric="tabular-nums" fontWeight="semibold" lineHeight="short" whiteSpace="nowrap">
      {value}
    </Text>
    <Text color="fg.muted" fontSize="xs" fontVariantNumeric="tabular-nums">
      {note}
    </Text>
  </Box>
);

const cost = (sum: Sum) => (sum.jobs > 0 && sum.unpriced_jobs === sum.jobs ? "unknown" : usdShort(sum.cost_usd));
const saved = (sum: Sum) =>
  sum.jobs === 0 ? "nothing delivered" : `${usdShort(sum.saved_usd)} saved · ${plural(sum.jobs, "job")}`;

/** The answers to the first questions, in large type. */
export const Tiles = ({ inFlight, totals }: { readonly inFlight: string; readonly totals: Totals }) => {
  const { all, batch_seconds: batches, last_24_hours: lastDay } = totals;

  return (
    <SimpleGrid columns={{ base: 2, md: 3, lg: 5 }} gap={3}>
      <Tile name="In flight now" note={inFlight === "1" ? "job" : "jobs"} value={inFlight} />
      <Tile name="Cost, last 24 hours" note={saved(lastDay)} value={cost(lastDay)} />
      <Tile name="Cost, last 30 days" note={saved(all)} value={cost(all)} />
      <Tile
        name="Requests succeeded"
        note={all.requests > 0 ? `${count(all.succeeded)} of ${count(all.requests)} in 30 days` : "in 30 days"}
        value={all.requests > 0 ? percent(all.succeeded / all.requests) : "–"}
      />
      <Tile
        name="Batch duration, median"
        note={batches.p95 === null ? "no batch with known times" : `95% within ${duration(batches.p95)}`}
        value={batches.median === null ? "–" : duration(batches.median)}
      />
    </SimpleGrid>
  );
};
