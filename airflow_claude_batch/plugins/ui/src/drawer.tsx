/** A job's details, over the page. */
import { CloseButton, Drawer, Portal, Skeleton } from "@chakra-ui/react";
import { useRef } from "react";

import { nameOf, useApi, type JobDetails, type JobKey } from "./api";
import { Details } from "./details";
import { ErrorNote } from "./parts";
import { STILL } from "./still";
import { spoken, t } from "./text";

type DrawerProps = {
  readonly job: JobKey | undefined;
  readonly onChanged: () => void;
  readonly onClose: () => void;
  readonly seconds: number;
};

export const JobDrawer = ({ job, onChanged, onClose, seconds }: DrawerProps) => {
  const { data, error, loading, reload } = useApi<JobDetails>(job ? "job" : null, job ?? {}, seconds);
  const last = useRef("");

  if (job) {
    last.current = nameOf(job);
  }

  return (
    <Drawer.Root
      finalFocusEl={() => document.querySelector<HTMLElement>(`[data-job="${CSS.escape(last.current)}"]`)}
      onOpenChange={(change: { open: boolean }) => {
        if (!change.open) {
          onClose();
        }
      }}
      open={job !== undefined}
      placement="end"
      size="lg"
    >
      <Portal>
        <Drawer.Backdrop className={STILL} />
        <Drawer.Positioner>
          <Drawer.Content {...spoken()} className={STILL}>
            <Drawer.Header>
              <Drawer.Title>
                {job?.dag_id} · {job?.task_id}
                {job && job.map_index >= 0 ? ` [${job.map_index}]` : ""}
              </Drawer.Title>
            </Drawer.Header>
            <Drawer.Body pb={8}>
              {error === undefined ? undefined : <ErrorNote>{error}</ErrorNote>}
              {data && !loading ? (
                <Details
                  job={data}
                  onChanged={() => {
                    reload();
                    onChanged();
                  }}
                />
              ) : undefined}
              {loading && error === undefined ? <Skeleton h="240px" /> : undefined}
            </Drawer.Body>
            <Drawer.CloseTrigger asChild>
              <CloseButton aria-label={t("Close details")} size="sm" />
            </Drawer.CloseTrigger>
          </Drawer.Content>
        </Drawer.Positioner>
      </Portal>
    </Drawer.Root>
  );
};
