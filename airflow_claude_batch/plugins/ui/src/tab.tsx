/** The tab of a DAG run or a task instance: the same details, for its jobs only. */
import { Box, Skeleton, Stack, Text } from "@chakra-ui/react";

import { useApi, type JobDetails } from "./api";
import { Details } from "./details";
import { ErrorNote } from "./parts";
import { STILL, Still } from "./still";
import { plural, spoken, t } from "./text";

export type Place = { readonly dagId?: string; readonly runId?: string; readonly taskId?: string; readonly mapIndex?: string };

export const Tab = ({ dagId, mapIndex, runId, taskId }: Place) => {
  const params = { dag_id: dagId, map_index: mapIndex, run_id: runId, task_id: taskId };
  const first = useApi<{ jobs: JobDetails[]; left_out: number }>("run", params, 10);
  const jobs = first.data?.jobs;

  return (
    <Box {...spoken()} className={STILL} h="100%" overflowY="auto" p={4}>
      <Still />
      {first.error === undefined ? undefined : <ErrorNote>{first.error}</ErrorNote>}
      {jobs === undefined && first.error === undefined ? <Skeleton h="240px" /> : undefined}
      {jobs?.length === 0 ? (
        <Text color="fg.muted" fontSize="sm">
          {taskId === undefined
            ? t("No task of this run has a Claude batch job.")
            : t("This task has no Claude batch job: it is of another kind, or it has not started yet.")}
        </Text>
      ) : undefined}
      <Stack gap={4} maxW="960px">
        {jobs?.map((job) => (
          <Box borderRadius="md" borderWidth="1px" key={`${job.task_id} ${job.map_index}`} p={4}>
            {jobs.length > 1 ? (
              <Text fontWeight="semibold" mb={3}>
                {job.task_id}
                {job.map_index >= 0 ? ` [${job.map_index}]` : ""}
              </Text>
            ) : undefined}
            <Details job={job} onChanged={first.reload} />
          </Box>
        ))}
        {first.data && first.data.left_out > 0 ? (
          <Text color="fg.muted" fontSize="sm">
            {plural(
              first.data.left_out,
              "{n} older job of this run is on the page Claude Batches: search for the run there.",
              "{n} older jobs of this run are on the page Claude Batches: search for the run there.",
            )}
          </Text>
        ) : undefined}
      </Stack>
    </Box>
  );
};
