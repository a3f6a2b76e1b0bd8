/** The tab of a DAG: its own last nights and jobs. */
import { Box, Skeleton, Stack, Text } from "@chakra-ui/react";
import { useNavigate } from "react-router-dom";

import { nameOf, useApi, type Attention, type JobKey, type JobPage, type Totals } from "./api";
import { NeedsAttention } from "./attention";
import { useTimezone } from "./format";
import { InFlightList, RecentList } from "./lists";
import { LEGEND, Nights } from "./nights";
import { ErrorNote, PageLink, Section } from "./parts";
import { STILL, Still } from "./still";
import { spoken, t } from "./text";
import { Tiles } from "./tiles";

const LIMIT = 10;
const SECONDS = 30;
const PAGE = "/plugin/claude-batches";

export const DagTab = ({ dagId }: { readonly dagId: string }) => {
  const zone = useTimezone();
  const navigate = useNavigate();
  const dag = { dag_id: dagId };
  const totals = useApi<Totals>("totals", { ...dag, tz: zone }, SECONDS);
  const attention = useApi<Attention>("attention", dag, SECONDS);
  const inFlight = useApi<JobPage>("jobs", { ...dag, limit: LIMIT, view: "in_flight" }, SECONDS);
  const recent = useApi<JobPage>("jobs", { ...dag, limit: LIMIT, view: "recent" }, SECONDS);
  const at = (params: Record<string, string>) => `${PAGE}?${new URLSearchParams({ dag: dagId, ...params }).toString()}`;
  const rows = {
    // A link that is copied, or opened in a new tab, knows nothing of the path that Airflow is served under.
    hrefOf: (key: JobKey) => new URL(at({ job: nameOf(key) }).slice(1), document.baseURI).href,
    onOpen: (key: JobKey) => void navigate(at({ job: nameOf(key) })),
  };
  const error = [totals, attention, inFlight, recent].find((one) => one.error !== undefined)?.error;
  const none = inFlight.data?.total === 0 && recent.data?.total === 0;

  return (
    <Box {...spoken()} aria-label="Claude Batches" as="section" className={STILL} h="100%" overflowY="auto" p={{ base: 2, md: 4 }} tabIndex={0}>
      <Still />
      {error === undefined ? undefined : <ErrorNote>{error}</ErrorNote>}
      {none ? (
        <Text color="fg.muted" fontSize="sm">
          {t("No task of this DAG has had a Claude batch job.")}
        </Text>
      ) : (
        <Stack gap={6} maxW="1600px" mx="auto">
          {totals.data ? <Tiles attention={attention.data?.total} totals={totals.data} /> : <Skeleton h="86px" />}
          {attention.data && attention.data.total > 0 ? (
            <NeedsAttention attention={attention.data} scope={undefined} {...rows} />
          ) : undefined}
          {inFlight.data && inFlight.data.total > 0 ? (
            <Section title={t("In flight")}>
              <InFlightList jobs={inFlight.data.jobs} usual={totals.data?.usual_seconds} {...rows} />
            </Section>
          ) : undefined}
          {totals.data && totals.data.all.jobs > 0 ? (
            <Nights
              note={t(LEGEND)}
              onNight={(_, day) => void navigate(at(day === "" ? {} : { day }))}
              totals={totals.data}
            />
          ) : undefined}
          {recent.data && recent.data.total > 0 ? (
            <Section aside={
                <Text fontSize="sm">
                  <PageLink to={at({})}>{t("All jobs")}</PageLink>
                </Text>
              } title={t("Recent")}>
              <RecentList jobs={recent.data.jobs} {...rows} />
            </Section>
          ) : undefined}
        </Stack>
      )}
    </Box>
  );
};
