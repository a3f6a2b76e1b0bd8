/** The last 30 days: what they cost by day and DAG, what was saved, and what became of the requests. */
import { Box, HStack, Stack, Text } from "@chakra-ui/react";

import { OUTCOMES, type Counts, type Schedule, type Totals } from "./api";
import { CostChart, DayTable, Legend } from "./chart";
import { Errors } from "./errors";
import { usd } from "./format";
import { CostTable, Next } from "./money";
import { Nights } from "./nights";
import { OutcomeBar, OutcomeLegend } from "./outcomes";
import { Section } from "./parts";
import { MONEY } from "./places";
import { groupsOf, sumsByDag } from "./sums";
import { plural, t } from "./text";

type Props = {
  readonly onNight: (dagId: string, day: string) => void;
  readonly schedule: Schedule | undefined;
  readonly scope: string | undefined;
  readonly totals: Totals;
};

export const Trends = ({ onNight, schedule, scope, totals }: Props) => {
  const groups = groupsOf(totals);
  const colors = new Map(groups.flatMap((group) => [...group.dagIds].map((dagId) => [dagId, group.color] as const)));
  const counts: Counts = { ...totals.outcomes, total: OUTCOMES.reduce((sum, outcome) => sum + totals.outcomes[outcome], 0) };

  if (totals.all.jobs === 0) {
    return (
      <Section title={t("Last 30 days")}>
        <Text borderRadius="md" borderWidth="1px" color="fg.muted" fontSize="sm" px={4} py={3}>
          {t("Nothing was submitted. Cost, saving and outcomes are summed up here once it is.")}
        </Text>
      </Section>
    );
  }

  return (
    <>
      <Nights onNight={onNight} totals={totals} />
      <Errors totals={totals} />
      <Section
        note={
          scope === undefined
            ? t("all jobs submitted since then, whatever the filters of the lists")
            : t("all jobs of {dag} submitted since then, whatever the filters of the lists", { dag: scope })
        }
        title={t("Money, last 30 days")}
      >
        <Stack borderRadius="md" borderWidth="1px" gap={5} p={4}>
          <Box>
            <HStack flexWrap="wrap" fontSize="sm" gap={4} justify="space-between" mb={2}>
              <Text as="h3" fontWeight="medium">
                {t("Cost by day and DAG")}
              </Text>
              <Legend groups={groups} />
            </HStack>
            <CostChart groups={groups} totals={totals} />
            <DayTable totals={totals} />
          </Box>
          {schedule ? <Next schedule={schedule} /> : undefined}
          <Box id={MONEY} tabIndex={-1}>
            <CostTable
              lines={[...sumsByDag(totals)].map(([name, sum]) => ({ color: colors.get(name), name, sum }))}
              onPick={(dagId) => onNight(dagId, "")}
              title="DAG"
            />
          </Box>
          <CostTable lines={totals.by_model.map((sum) => ({ name: sum.name, sum }))} title="model" />
          <CostTable lines={totals.by_connection.map((sum) => ({ name: sum.name, sum }))} title="connection" />
          <Box>
            <Text as="h3" fontSize="sm" fontWeight="medium" mb={2}>
              {t("Requests by outcome")}
            </Text>
            <Stack gap={2}>
              <OutcomeBar counts={counts} height="10px" />
              <OutcomeLegend counts={counts} />
            </Stack>
          </Box>
          <Text color="fg.muted" fontSize="xs">
            {remarks(totals).join(" ")}
          </Text>
        </Stack>
      </Section>
    </>
  );
};

const remarks = ({ all, truncated }: Totals): string[] =>
  [
    t("A job counts on the day of its submission."),
    all.estimated_usd > 0 ? t("{usd} of the cost is estimated: jobs without results.", { usd: usd(all.estimated_usd) }) : "",
    all.unpriced_jobs > 0
      ? plural(
          all.unpriced_jobs,
          "{n} job without a known price is not in the cost.",
          "{n} jobs without a known price are not in the cost.",
        )
      : "",
    all.unreadable > 0 ? plural(all.unreadable, "{n} job cannot be read.", "{n} jobs cannot be read.") : "",
    all.reused > 0
      ? plural(all.reused, "{n} answer was reused, which saved {usd}.", "{n} answers were reused, which saved {usd}.", {
          usd: usd(all.saved_by_reuse_usd),
        })
      : "",
    truncated ? t("Only the newest 50,000 jobs are counted.") : "",
  ].filter(Boolean);
