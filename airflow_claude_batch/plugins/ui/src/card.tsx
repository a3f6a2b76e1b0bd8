/** The card on Airflow's dashboard: what needs attention, what is in flight, what the day cost. */
import { Box, HStack, SimpleGrid, Text } from "@chakra-ui/react";

import { useApi, type Attention, type Totals } from "./api";
import { count, useTimezone } from "./format";
import { PageLink } from "./parts";
import { spoken, t } from "./text";
import { Tile, costOf, inFlightNote } from "./tiles";

const SECONDS = 60;

/** Airflow draws what plugins bring first, unless they ask for a place among its own parts. */
const PLACE = 5;

export const Card = () => {
  const zone = useTimezone();
  const totals = useApi<Totals>("totals", { tz: zone }, SECONDS).data;
  const attention = useApi<Attention>("attention", {}, SECONDS).data;

  // Who may read nothing, or has no job, has no use for it; nor has anybody for an error on the dashboard.
  if (!totals || totals.all.jobs === 0) {
    return null;
  }

  return (
    <Box {...spoken()} aria-label="Claude Batches" as="section" order={PLACE}>
      <HStack justify="space-between" mb={2}>
        <Text as="h2" color="fg.muted" fontSize="xs" fontWeight="bold">
          Claude Batches
        </Text>
        <Text fontSize="xs">
          <PageLink to="/plugin/claude-batches">{t("All jobs")}</PageLink>
        </Text>
      </HStack>
      <SimpleGrid columns={{ base: 1, sm: 2, lg: 4 }} gap={3}>
        <Tile
          name={t("Needs attention")}
          note={t("in flight, or of the last 24 hours")}
          value={attention === undefined ? "–" : count(attention.total)}
        />
        <Tile name={t("In flight now")} note={inFlightNote(totals.in_flight)} value={count(totals.in_flight.jobs)} />
        <Tile
          name={t("Cost, submitted in 24 hours")}
          note={t("{n} failed", { n: count(totals.last_24_hours.failed) })}
          value={costOf(totals.last_24_hours)}
        />
        <Tile
          name={t("Cost, submitted in 30 days")}
          note={t("{n} failed", { n: count(totals.all.failed) })}
          value={costOf(totals.all)}
        />
      </SimpleGrid>
    </Box>
  );
};
