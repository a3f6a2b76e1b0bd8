/** A table of jobs: columns that make room by the table's own width, rows that open a job's details. */
import { Box, Button, Table } from "@chakra-ui/react";
import type { MouseEvent, ReactNode } from "react";

import { keyOf, nameOf, type Job, type JobKey } from "./api";
import { t } from "./text";

type Open = (key: JobKey) => void;

export type ListProps = { readonly hrefOf: (key: JobKey) => string; readonly jobs: Job[]; readonly onOpen: Open };

/**
 * A column: how wide it is, in a narrow table, too, and from which width of the table on it is there; the details have
 * all of them.
 */
export type Column = {
  readonly from?: number;
  readonly name: string;
  readonly narrow?: string;
  readonly number?: boolean;
  readonly w?: string;
};

/** Below this width a table is one of a telephone's. */
const NARROW = 520;

export const inNarrow = (style: object) => ({ [`@container (max-width: ${NARROW - 1}px)`]: style });

/** By the table's own width, not the window's: Airflow's navigation and panels take some of it. */
export const hiddenBelow = (from: number | undefined) =>
  from === undefined ? undefined : { [`@container (max-width: ${from - 1}px)`]: { display: "none" } };

export const shownBelow = (from: number) => ({ [`@container (min-width: ${from}px)`]: { display: "none" } });

export const Right = ({ children, from }: { readonly children: ReactNode; readonly from?: number }) => (
  <Table.Cell css={hiddenBelow(from)} fontVariantNumeric="tabular-nums" overflow="hidden" textAlign="end" textOverflow="ellipsis" whiteSpace="nowrap">
    {children}
  </Table.Cell>
);

export const Head = ({ columns }: { readonly columns: Column[] }) => (
  <Table.Header>
    <Table.Row>
      {columns.map(({ from, name, narrow, number, w }) => (
        <Table.ColumnHeader
          css={{ ...hiddenBelow(from), ...(narrow === undefined ? {} : inNarrow({ width: narrow })) }}
          key={name}
          scope="col"
          textAlign={number === true ? "end" : undefined}
          w={w}
          whiteSpace="normal"
        >
          {t(name)}
        </Table.ColumnHeader>
      ))}
      <Table.ColumnHeader css={inNarrow({ fontSize: 0, width: "48px" })} scope="col" textAlign="end" w="84px">
        {t("Details")}
      </Table.ColumnHeader>
    </Table.Row>
  </Table.Header>
);

type RowProps = { readonly children: ReactNode; readonly job: Job } & Pick<ListProps, "hrefOf" | "onOpen">;

/** A row opens the details wherever it is clicked, unless text was selected; with the keyboard, its link does. */
export const Row = ({ children, hrefOf, job, onOpen }: RowProps) => {
  const open = (event: MouseEvent) => {
    const selected = getSelection();

    if (!(event.target as Element).closest("a, button") && (selected === null || selected.isCollapsed)) {
      onOpen(keyOf(job));
    }
  };
  const follow = (event: MouseEvent) => {
    if (event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      onOpen(keyOf(job));
    }
  };

  return (
    <Table.Row cursor="pointer" onClick={open}>
      {children}
      <Table.Cell textAlign="end">
        <Button asChild size="xs" variant="outline">
          <a
            aria-label={t("Details of {task} in {dag}, {run}", { dag: job.dag_id, run: job.run_id, task: job.task_id })}
            data-job={nameOf(job)}
            href={hrefOf(keyOf(job))}
            onClick={follow}
          >
            <Box as="span" css={hiddenBelow(NARROW)}>
              {t("Details")}
            </Box>
            <Box as="span" css={shownBelow(NARROW)}>
              ›
            </Box>
          </a>
        </Button>
      </Table.Cell>
    </Table.Row>
  );
};

export const Grid = ({ children, label }: { readonly children: ReactNode; readonly label: string }) => (
  <Box borderRadius="md" borderWidth="1px" css={{ containerType: "inline-size" }} overflow="hidden">
    <Table.Root aria-label={label} css={{ tableLayout: "fixed" }} interactive size="sm" w="100%">
      {children}
    </Table.Root>
  </Box>
);
