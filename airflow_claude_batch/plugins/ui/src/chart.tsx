/** Cost by day and DAG: a chart for the eye, each bar in reach of the keyboard, and the same as a table. */
import { Box, HStack, Table, Text } from "@chakra-ui/react";
import { useEffect, useRef, useState, type KeyboardEvent } from "react";

import type { Sum, Totals } from "./api";
import { count, longDay, shortDay, usd, usdShort, usdWhole } from "./format";
import { Ltr } from "./parts";
import { NONE, add, type Group } from "./sums";
import { plural, t } from "./text";

const SAVED = "var(--chakra-colors-border-emphasized)";
const HEIGHT = 200;
const MARGIN = { bottom: 22, left: 56, right: 18, top: 14 };

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

type Day = { day: string; parts: { group: Group; sum: Sum }[]; sum: Sum };

const daysOf = (totals: Totals, groups: Group[]): Day[] =>
  totals.days.map((day) => {
    const rows = totals.by_day.filter((row) => row.day === day);
    const parts = groups.map((group) => ({
      group,
      sum: rows.filter((row) => group.dagIds.has(row.dag_id)).reduce<Sum>(add, NONE),
    }));

    return { day, parts, sum: rows.reduce<Sum>(add, NONE) };
  });

/** What a day was, in words. */
const wordsOf = ({ day, parts, sum }: Day): string[] => [
  t("{day}: {cost}, {saved} saved, {jobs}", {
    cost: usd(sum.cost_usd),
    day: longDay(day),
    jobs: plural(sum.jobs, "{n} job", "{n} jobs"),
    saved: usd(sum.saved_usd),
  }),
  ...parts.filter((part) => part.sum.jobs > 0).map((part) => `${part.group.name}: ${usd(part.sum.cost_usd)}`),
];

type ChartProps = { readonly groups: Group[]; readonly totals: Totals };

export const CostChart = ({ groups, totals }: ChartProps) => {
  const { ref, width } = useWidth();
  const [shown, setShown] = useState<number>();
  const [focus, setFocus] = useState(totals.days.length - 1);
  const days = daysOf(totals, groups);
  const heights = days.map(({ sum }) => sum.cost_usd + sum.saved_usd).sort((one, other) => other - one);
  // One big day must not flatten the others: beyond three times the next one it is cut off, and says so.
  const limit = heights[1] !== undefined && heights[1] > 0 ? Math.min(heights[0] ?? 0, heights[1] * 3) : (heights[0] ?? 0);
  const ticks = scale(limit);
  const top = ticks.at(-1) ?? 1;
  const inner = { height: HEIGHT - MARGIN.top - MARGIN.bottom, width: width - MARGIN.left - MARGIN.right };
  const step = inner.width / days.length;
  const bar = Math.min(step * 0.7, 26);
  const y = (value: number) => MARGIN.top + inner.height * (1 - Math.min(value / top, 1));
  const labelEvery = Math.ceil(64 / step);
  const move = (event: KeyboardEvent<SVGSVGElement>) => {
    const to = { ArrowLeft: focus - 1, ArrowRight: focus + 1, End: days.length - 1, Home: 0 }[event.key];

    if (to !== undefined && to >= 0 && to < days.length) {
      event.preventDefault();
      setFocus(to);
      event.currentTarget.querySelector<SVGGElement>(`[data-day="${to}"]`)?.focus();
    }
  };
  const day = shown === undefined ? undefined : days[shown];

  return (
    <Box color="fg.muted" fontSize="11px" ref={ref} w="100%">
      <svg
        aria-label={t("Cost by day: {cost} in {days} days, {saved} saved; arrow keys go from day to day", {
          cost: usd(totals.all.cost_usd),
          days: days.length,
          saved: usd(totals.all.saved_usd),
        })}
        height={HEIGHT}
        onKeyDown={move}
        onMouseLeave={() => setShown(undefined)}
        role="group"
        style={{ display: "block", fontVariantNumeric: "tabular-nums" }}
        viewBox={`0 0 ${width} ${HEIGHT}`}
        width={width}
      >
        {ticks.map((tick) => (
          <g aria-hidden key={tick}>
            <line
              stroke="var(--chakra-colors-border)"
              strokeDasharray={tick === 0 ? undefined : "2 3"}
              x1={MARGIN.left}
              x2={width - MARGIN.right}
              y1={y(tick)}
              y2={y(tick)}
            />
            <text dominantBaseline="middle" fill="currentColor" textAnchor="end" x={MARGIN.left - 8} y={y(tick)}>
              {top >= 100 ? usdWhole(tick) : usdShort(tick)}
            </text>
          </g>
        ))}
        {days.map((one, index) => (
          <g
            aria-label={wordsOf(one).join("; ")}
            data-day={index}
            key={one.day}
            onBlur={() => setShown(undefined)}
            onFocus={() => {
              setFocus(index);
              setShown(index);
            }}
            onMouseEnter={() => setShown(index)}
            role="img"
            style={{ outline: "none" }}
            tabIndex={index === focus ? 0 : -1}
          >
            <rect
              fill={index === shown ? "var(--chakra-colors-bg-emphasized)" : "transparent"}
              height={inner.height}
              stroke={index === shown ? "var(--chakra-colors-fg-muted)" : "none"}
              width={step}
              x={MARGIN.left + step * index}
              y={MARGIN.top}
            />
            <Bar bar={bar} one={one} top={top} x={MARGIN.left + step * index + (step - bar) / 2} y={y} />
            {(days.length - 1 - index) % labelEvery === 0 ? (
              <text fill="currentColor" textAnchor="middle" x={MARGIN.left + step * (index + 0.5)} y={HEIGHT - 6}>
                {shortDay(one.day)}
              </text>
            ) : undefined}
          </g>
        ))}
      </svg>
      <Text aria-hidden fontSize="xs" minH="2.6em">
        {day === undefined ? "" : wordsOf(day).join(" · ")}
      </Text>
    </Box>
  );
};

type BarProps = {
  readonly bar: number;
  readonly one: Day;
  readonly top: number;
  readonly x: number;
  readonly y: (value: number) => number;
};

const Bar = ({ bar, one: { parts, sum }, top, x, y }: BarProps) => {
  const whole = sum.cost_usd + sum.saved_usd;
  let below = 0;

  return (
    <>
      <rect fill={SAVED} height={y(0) - y(whole)} rx={2} width={bar} x={x} y={y(whole)} />
      {parts.map(({ group, sum: part }) => {
        const from = below;

        below += part.cost_usd;

        return <rect fill={group.color} height={y(from) - y(below)} key={group.name} width={bar} x={x} y={y(below)} />;
      })}
      {whole > top ? (
        <text fill="currentColor" textAnchor="end" x={x + bar} y={MARGIN.top - 3}>
          ↑ {usdShort(whole)}
        </text>
      ) : undefined}
    </>
  );
};

export const Swatch = ({ color }: { readonly color: string }) => (
  <Box borderRadius="xs" display="inline-block" flexShrink={0} h="10px" style={{ background: color }} w="10px" />
);

export const Legend = ({ groups }: { readonly groups: Group[] }) => (
  <HStack color="fg.muted" columnGap={4} flexWrap="wrap" fontSize="xs">
    {groups.map(({ color, name }) => (
      <HStack gap={1} key={name} maxW="200px">
        <Swatch color={color} />
        <Text truncate>{name}</Text>
      </HStack>
    ))}
    <HStack gap={1}>
      <Swatch color={SAVED} /> {t("saved against standard prices")}
    </HStack>
  </HStack>
);

/** The chart's numbers as numbers. */
export const DayTable = ({ totals }: { readonly totals: Totals }) => (
  <Box as="details" fontSize="sm">
    <Box as="summary" color="fg.muted" cursor="pointer">
      {t("As a table by day")}
    </Box>
    <Table.Root aria-label={t("Cost by day")} size="sm">
      <Table.Header>
        <Table.Row>
          {["Day", "Jobs", "Failed", "Cost", "Saved"].map((name) => (
            <Table.ColumnHeader key={name} scope="col" textAlign={name === "Day" ? undefined : "end"}>
              {t(name)}
            </Table.ColumnHeader>
          ))}
        </Table.Row>
      </Table.Header>
      <Table.Body fontVariantNumeric="tabular-nums">
        {daysOf(totals, [])
          .filter(({ sum }) => sum.jobs > 0)
          .reverse()
          .map(({ day, sum }) => (
            <Table.Row key={day}>
              <Table.Cell title={day}>{longDay(day)}</Table.Cell>
              {[count(sum.jobs), count(sum.failed), usd(sum.cost_usd), usd(sum.saved_usd)].map((text, index) => (
                <Table.Cell key={index} textAlign="end">
                  <Ltr>{text}</Ltr>
                </Table.Cell>
              ))}
            </Table.Row>
          ))}
      </Table.Body>
    </Table.Root>
  </Box>
);
