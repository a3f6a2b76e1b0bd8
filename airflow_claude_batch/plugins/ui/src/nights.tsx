/** A grid of days and DAGs: ran, failed, late, dearer than usual. */
import { Box, Button, Table, Text, VisuallyHidden } from "@chakra-ui/react";
import { useEffect, useRef, type KeyboardEvent } from "react";

import type { Sum, Totals } from "./api";
import { count, longDay, usd } from "./format";
import { Section } from "./parts";
import { usual } from "./sums";
import { plural, t } from "./text";

export const LEGEND = "30 days; × failed, % many failures, ! late, ? not readable, … in flight, $ dearer than usual, · delivered";

const NIGHTS = 15;
/** So much more than usual is worth a mark. */
const DEAR = 1.5;
/** From this share of requests on that did not succeed, a job needs attention. */
const MOSTLY_FAILED = 0.1;

type Night = { color: string; mark: string; text: string };

/** What a night of a DAG was: its worst news. */
const nightOf = (sum: Sum, usually: number | undefined): Night => {
  const dear = usually !== undefined && sum.cost_usd > DEAR * usually && sum.cost_usd - usually >= 0.01;
  // Of a job that cannot be read nobody knows.
  const bad = sum.unreadable > 0 ? 0 : sum.requests_over - sum.succeeded;
  const text = [
    plural(sum.jobs, "{n} job", "{n} jobs"),
    sum.failed > 0 ? t("{n} failed", { n: count(sum.failed) }) : "",
    bad > 0 ? plural(bad, "{n} request did not succeed", "{n} requests did not succeed") : "",
    sum.late > 0 ? t("{n} late", { n: count(sum.late) }) : "",
    sum.unreadable > 0 ? t("{n} not readable", { n: count(sum.unreadable) }) : "",
    usually === undefined
      ? usd(sum.cost_usd)
      : t("{usd}, usually {usual}", { usd: usd(sum.cost_usd), usual: usd(usually) }),
  ]
    .filter(Boolean)
    .join(", ");

  if (sum.failed > 0) {
    return { color: "red.600", mark: "×", text };
  }
  if (bad > MOSTLY_FAILED * sum.requests_over) {
    return { color: "yellow.700", mark: "%", text };
  }
  if (sum.late > 0) {
    return { color: "orange.600", mark: "!", text };
  }
  if (sum.unreadable > 0) {
    return { color: "gray.600", mark: "?", text };
  }
  if (sum.delivered === 0) {
    return { color: "blue.600", mark: "…", text };
  }

  return dear ? { color: "purple.600", mark: "$", text } : { color: "green.600", mark: "·", text };
};

/** From night to night with the arrow keys; Tab goes from DAG to DAG. */
const move = (event: KeyboardEvent<HTMLTableElement>) => {
  const from = document.activeElement as HTMLElement | null;
  const cell = from?.closest("td");
  const row = cell?.parentElement;
  const step = { ArrowDown: 0, ArrowLeft: -1, ArrowRight: 1, ArrowUp: 0 }[event.key];

  if (!cell || !row || step === undefined) {
    return;
  }
  event.preventDefault();
  const next = (element: Element | null): HTMLElement | null =>
    element === null
      ? null
      : (element.querySelector("button") ??
        next(step < 0 ? element.previousElementSibling : step > 0 ? element.nextElementSibling : null));
  const column = [...row.children].indexOf(cell);
  const other = event.key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling;

  (step === 0
    ? (other?.children[column]?.querySelector("button") ?? other?.querySelector("button"))
    : next(step < 0 ? cell.previousElementSibling : cell.nextElementSibling)
  )?.focus();
};

/**
 * Where there is no room for a month, the last nights are in view, or those that were scrolled to: turned or widened,
 * the grid ends with the same night.
 */
const useLastNights = () => {
  const grid = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const box = grid.current;

    if (box === null) {
      return undefined;
    }
    let behind = 0;
    let room = 0;
    let placed = 0;
    const place = () => {
      const ahead = getComputedStyle(box).direction === "rtl" ? -1 : 1;

      room = box.scrollWidth - box.clientWidth;
      box.scrollLeft = ahead * Math.max(room - behind, 0);
      placed = box.scrollLeft;
    };
    const scrolled = () => {
      // Not what was placed here, nor what the browser moved because the grid has another width.
      if (box.scrollLeft !== placed && box.scrollWidth - box.clientWidth === room) {
        placed = box.scrollLeft;
        behind = room - Math.abs(placed);
      }
    };
    const observer = new ResizeObserver(place);

    // Both: names of DAGs are longer in a wide window.
    [box, ...box.children].forEach((one) => observer.observe(one));
    box.addEventListener("scroll", scrolled);

    return () => {
      observer.disconnect();
      box.removeEventListener("scroll", scrolled);
    };
  }, []);

  return grid;
};

type Props = {
  readonly note?: string;
  readonly onNight: (dagId: string, day: string) => void;
  readonly totals: Totals;
};

export const Nights = ({ note, onNight, totals }: Props) => {
  const grid = useLastNights();
  const byDag = new Map<string, Map<string, Sum>>();

  for (const row of totals.by_day) {
    const days = byDag.get(row.dag_id) ?? new Map<string, Sum>();

    byDag.set(row.dag_id, days.set(row.day, row));
  }
  const failures = ([, days]: [string, Map<string, Sum>]) => [...days.values()].reduce((sum, one) => sum + one.failed, 0);
  const dags = [...byDag.entries()].sort((one, other) => failures(other) - failures(one) || one[0].localeCompare(other[0]));

  return (
    <Section
      note={
        note ??
        [
          t(LEGEND),
          dags.length > NIGHTS ? t("the {n} DAGs with most failures", { n: NIGHTS }) : "",
        ]
          .filter(Boolean)
          .join("; ")
      }
      title={t("Nights")}
    >
      <Box borderRadius="md" borderWidth="1px" overflowX="auto" position="relative" py={3} ref={grid}>
        <Table.Root
          aria-label={t("Nights")}
          css={{
            "& td, & th": { border: "none", padding: "2px" },
            // Within the cells, so that nothing shows beside the names, which stay.
            "& td:first-of-type, & th:first-of-type": { paddingInlineStart: "12px" },
            "& td:last-of-type, & th:last-of-type": { paddingInlineEnd: "12px" },
            width: "auto",
          }}
          onKeyDown={move}
          size="sm"
        >
          <Table.Header>
            <Table.Row>
              <Table.ColumnHeader bg="bg" insetInlineStart={0} position="sticky" scope="col">
                {t("DAG")}
              </Table.ColumnHeader>
              {totals.days.map((day) => (
                <Table.ColumnHeader fontSize="2xs" fontWeight="normal" key={day} scope="col" textAlign="center" title={longDay(day)}>
                  {day.slice(8)}
                </Table.ColumnHeader>
              ))}
            </Table.Row>
          </Table.Header>
          <Table.Body>
            {dags.slice(0, NIGHTS).map(([dagId, days]) => (
              <Row dagId={dagId} days={days} key={dagId} onNight={onNight} totals={totals} />
            ))}
          </Table.Body>
        </Table.Root>
      </Box>
    </Section>
  );
};

type RowProps = Pick<Props, "onNight" | "totals"> & { readonly dagId: string; readonly days: Map<string, Sum> };

const Row = ({ dagId, days, onNight, totals }: RowProps) => {
  const usually = usual([...days.values()].filter((sum) => sum.delivered > 0).map((sum) => sum.cost_usd));

  return (
    <Table.Row>
      <Table.Cell bg="bg" insetInlineStart={0} position="sticky">
        <Button
          justifyContent="start"
          maxW={{ base: "120px", md: "220px" }}
          onClick={() => onNight(dagId, "")}
          px={0}
          size="2xs"
          title={dagId}
          variant="ghost"
        >
          <Text as="span" truncate>
            {dagId}
          </Text>
        </Button>
      </Table.Cell>
      {totals.days.map((day) => {
        const sum = days.get(day);

        return (
          <Table.Cell key={day}>
            {sum === undefined ? (
              <Box borderRadius="sm" borderWidth="1px" h="24px" w="24px" />
            ) : (
              <Cell dagId={dagId} day={day} night={nightOf(sum, usually)} onNight={onNight} />
            )}
          </Table.Cell>
        );
      })}
    </Table.Row>
  );
};

type CellProps = Pick<Props, "onNight"> & { readonly dagId: string; readonly day: string; readonly night: Night };

const Cell = ({ dagId, day, night, onNight }: CellProps) => (
  <Box
    as="button"
    bg={night.color}
    borderRadius="sm"
    color="white"
    cursor="pointer"
    display="block"
    fontSize="xs"
    fontWeight="bold"
    h="24px"
    lineHeight="24px"
    onClick={() => onNight(dagId, day)}
    tabIndex={-1}
    textAlign="center"
    title={`${dagId}, ${longDay(day)}: ${night.text}`}
    w="24px"
  >
    <span aria-hidden>{night.mark}</span>
    <VisuallyHidden>{`${longDay(day)}: ${night.text}`}</VisuallyHidden>
  </Box>
);
