/** Costs from the book: by DAG, tag and model for a day, a week, a month; what was saved; budgets as bars. */
import { Box, Button, HStack, SimpleGrid, Stack, Text } from "@chakra-ui/react";
import { useState } from "react";

import { useApi, type BudgetUse, type CostRow, type Spending } from "./api";
import { Choice, translated } from "./choice";
import { count, percent, usd, usdShort } from "./format";
import { Section } from "./parts";
import { SumTable, type Figure } from "./sumtable";
import { t } from "./text";

const PERIODS = { day: "Today", month: "This month", week: "Last 7 days" } as const;
const HEADS: Record<string, string> = { day: "Day", model: "Model" };
const SECONDS = 60;

const COLUMNS: Figure<CostRow>[] = [
  { name: "Requests", text: (row) => count(row.requests), value: (row) => row.requests },
  { name: "Paid", small: true, text: (row) => usdShort(row.total_usd), value: (row) => row.total_usd },
  { name: "Of it direct", text: (row) => usdShort(row.direct_usd), value: (row) => row.direct_usd },
  { name: "Saved by batch", text: (row) => usdShort(row.saved_by_batch_usd), value: (row) => row.saved_by_batch_usd },
  { name: "By cache", text: (row) => usdShort(row.saved_by_cache_usd), value: (row) => row.saved_by_cache_usd },
  { name: "By reuse", text: (row) => usdShort(row.saved_by_reuse_usd), value: (row) => row.saved_by_reuse_usd },
  { name: "Reserved", small: true, text: (row) => usdShort(row.reserved_usd), value: (row) => row.reserved_usd },
];
const NUMBERS = [
  "requests", "batch_usd", "direct_usd", "total_usd", "saved_by_batch_usd", "saved_by_cache_usd", "saved_by_reuse_usd", "reserved_usd",
  "unpriced_requests",
] as const;

const Amount = ({ name, value }: { readonly name: string; readonly value: string }) => (
  <Box>
    <Text color="fg.muted" fontSize="xs">
      {name}
    </Text>
    <Text fontSize="lg" fontVariantNumeric="tabular-nums" fontWeight="semibold">
      {value}
    </Text>
  </Box>
);

const BudgetBar = ({ budget }: { readonly budget: BudgetUse }) => {
  const name = `${budget.scope}, ${t(`a ${budget.per}`)}`;

  if (budget.max_usd === undefined) {
    return (
      <Text color="fg.muted" fontSize="sm">
        {t("{name}: holds costs of DAGs that you may not read", { name })}
      </Text>
    );
  }
  const { max_usd: limit, reserved_usd: reserved = 0, settled_usd: settled = 0, warn_at: warnAt = 1 } = budget;
  const used = limit > 0 ? (settled + reserved) / limit : 1;
  const width = (value: number) => `${Math.min((value / Math.max(limit, settled + reserved, 1e-12)) * 100, 100)}%`;
  const text = t("{paid} paid and {reserved} reserved of {limit}, {share}", {
    limit: usd(limit),
    paid: usd(settled),
    reserved: usd(reserved),
    share: percent(used),
  });
  const color = used > 1 ? "red.600" : used >= warnAt ? "orange.600" : "green.600";

  return (
    <Box>
      <HStack flexWrap="wrap" fontSize="sm" justify="space-between">
        <Text title={name} truncate>
          {name}, {budget.window}
        </Text>
        <Text color="fg.muted" fontVariantNumeric="tabular-nums">
          {text}
        </Text>
      </HStack>
      <HStack
        aria-label={`${name}: ${text}`}
        bg="bg.emphasized"
        borderRadius="sm"
        gap={0}
        h="8px"
        overflow="hidden"
        role="img"
      >
        <Box bg={color} h="100%" style={{ width: width(settled) }} />
        <Box bg={color} h="100%" opacity={0.5} style={{ width: width(reserved) }} />
      </HStack>
    </Box>
  );
};

type TableProps = {
  readonly onPick?: (name: string) => void;
  readonly rows: CostRow[];
  /** Of a tag: its name. */
  readonly tag?: string;
  readonly title: string;
};

const CostTable = ({ onPick, rows, tag, title }: TableProps) => {
  const heading = tag === undefined ? t(`Cost by ${title}`) : t("Cost by tag {tag}", { tag });

  return (
    <SumTable
      columns={COLUMNS}
      file={`claude-costs-by-${(tag ?? title).toLowerCase()}`}
      heading={heading}
      label={tag === undefined ? t(`Costs by ${title}`) : heading}
      lines={rows.map((row) => ({ name: row.name, sum: row }))}
      named={tag ?? t(HEADS[title] ?? title)}
      numbers={NUMBERS}
      onPick={onPick}
    />
  );
};

export const SpendingSection = ({ dagId }: { readonly dagId: string }) => {
  const [period, setPeriod] = useState<keyof typeof PERIODS>("month");
  const [tag, setTag] = useState("");
  const { data } = useApi<Spending>("costs", { dag_id: dagId, period, tag }, SECONDS);

  if (data === undefined || "unavailable" in data || (tag === "" && data.by_day.length === 0 && data.budgets.length === 0)) {
    return undefined;
  }
  const { total } = data;

  return (
    <Section
      aside={
        <HStack flexWrap="wrap">
          {tag === "" ? undefined : (
            <Button onClick={() => setTag("")} size="xs" variant="outline">
              {t("Only {dag}", { dag: tag })} ×
            </Button>
          )}
          <Choice
            label={t("Time of the costs")}
            onChange={(value) => setPeriod(value as keyof typeof PERIODS)}
            options={translated(PERIODS)}
            size="xs"
            value={period}
          />
        </HStack>
      }
      note={t("{first} to {last}, days of {zone}; what was reserved on a day counts on it", {
        first: data.first,
        last: data.last,
        zone: data.zone,
      })}
      title={t("Costs and budgets")}
    >
      <Stack borderRadius="md" borderWidth="1px" gap={5} p={4}>
        <SimpleGrid columns={{ base: 2, md: 3, xl: 6 }} gap={3}>
          <Amount name={t("Paid")} value={usdShort(total.total_usd)} />
          <Amount name={t("Reserved, not settled yet")} value={usdShort(total.reserved_usd)} />
          <Amount name={t("Saved by batches")} value={usdShort(total.saved_by_batch_usd)} />
          <Amount name={t("Saved by the cache")} value={usdShort(total.saved_by_cache_usd)} />
          <Amount name={t("Saved by reuse")} value={usdShort(total.saved_by_reuse_usd)} />
          <Amount name={t("This month at this pace")} value={`≈ ${usdShort(data.projected_month_usd)}`} />
        </SimpleGrid>
        {data.budgets.map((budget) => (
          <BudgetBar budget={budget} key={`${budget.scope} ${budget.per} ${budget.max_usd ?? ""}`} />
        ))}
        {Object.entries(data.by_tag).map(([name, rows]) => (
          <CostTable key={name} onPick={(value) => setTag(`${name}=${value}`)} rows={rows} tag={name} title="tag" />
        ))}
        <CostTable rows={data.by_dag} title="DAG" />
        <CostTable rows={data.by_model} title="model" />
        <CostTable rows={data.by_day} title="day" />
      </Stack>
    </Section>
  );
};
