/** What became of requests, as bars, words and numbers. */
import { Box, HStack, Text } from "@chakra-ui/react";

import { OUTCOMES, type Counts, type Outcome } from "./api";
import { count, percent } from "./format";
import { Number } from "./parts";
import { t } from "./text";

const OUTCOME_COLORS: Record<Outcome, string> = {
  canceled: "gray.500",
  errored: "red.600",
  expired: "orange.500",
  invalid: "purple.500",
  missing: "gray.700",
  succeeded: "green.600",
};

/** Told apart without colour, too: each outcome but success has a pattern of its own. */
const STRIPE = "rgba(255, 255, 255, 0.55)";
const OUTCOME_PATTERNS: Partial<Record<Outcome, string>> = {
  canceled: `repeating-linear-gradient(0deg, ${STRIPE} 0 1px, transparent 1px 4px)`,
  errored: `repeating-linear-gradient(45deg, ${STRIPE} 0 1.5px, transparent 1.5px 5px)`,
  expired: `repeating-linear-gradient(90deg, ${STRIPE} 0 1.5px, transparent 1.5px 4px)`,
  invalid: `repeating-linear-gradient(-45deg, ${STRIPE} 0 1.5px, transparent 1.5px 5px)`,
  missing: `radial-gradient(${STRIPE} 1px, transparent 1.2px) 0 0 / 4px 4px`,
};

const fillOf = (outcome: Outcome) => ({
  background: [OUTCOME_PATTERNS[outcome], `var(--chakra-colors-${OUTCOME_COLORS[outcome].replace(".", "-")})`]
    .filter(Boolean)
    .join(", "),
});

const OutcomeDot = ({ outcome }: { readonly outcome: Outcome }) => (
  <Box borderRadius="xs" display="inline-block" flexShrink={0} h="10px" style={fillOf(outcome)} w="10px" />
);

type CountsProps = { readonly counts: Counts };

/** One bar, a color for each outcome. What occurred is visible, however rare. */
export const OutcomeBar = ({ counts, height = "8px" }: CountsProps & { readonly height?: string }) => (
  <HStack aria-hidden bg="bg.emphasized" borderRadius="sm" gap="1px" h={height} overflow="hidden" w="100%">
    {OUTCOMES.filter((outcome) => counts[outcome] > 0).map((outcome) => (
      <Box flexBasis={0} flexGrow={counts[outcome]} h="100%" key={outcome} minW="5px" style={fillOf(outcome)} />
    ))}
  </HStack>
);

export const outcomeText = (counts: Counts): string =>
  OUTCOMES.filter((outcome) => counts[outcome] > 0)
    .map((outcome) => `${count(counts[outcome])} ${t(outcome)}`)
    .join(", ") || t("no requests");

/** Every outcome that occurred, with its color, number and share. */
export const OutcomeLegend = ({ counts }: CountsProps) => (
  <HStack columnGap={5} flexWrap="wrap" fontSize="sm" rowGap={1}>
    {OUTCOMES.filter((outcome) => counts[outcome] > 0 || outcome === "succeeded").map((outcome) => (
      <HStack gap={1.5} key={outcome}>
        <OutcomeDot outcome={outcome} />
        <Text>
          {t(outcome)} <Number value={counts[outcome]} />
          {counts.total > 0 ? (
            <Text as="span" color="fg.muted">
              {" "}
              {percent(counts[outcome] / counts.total)}
            </Text>
          ) : undefined}
        </Text>
      </HStack>
    ))}
  </HStack>
);
