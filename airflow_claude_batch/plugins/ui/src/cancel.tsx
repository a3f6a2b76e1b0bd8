/** Cancelling a job's batches, after a second thought. */
import { Button, Dialog, Portal, Stack, Text } from "@chakra-ui/react";
import { useState } from "react";

import { cancelJob, keyOf, type JobDetails } from "./api";
import { count, plural } from "./format";
import { ErrorNote } from "./parts";

type Props = { readonly job: JobDetails; readonly onCanceled: () => void };

export const CancelButton = ({ job, onCanceled }: Props) => {
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  const left = job.batches - job.batches_ended;

  const confirm = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const { batches } = await cancelJob(keyOf(job));
      const refused = batches.filter((batch) => batch.error !== null);

      onCanceled();
      if (refused.length === 0) {
        setOpen(false);
      } else {
        setError(`${count(refused.length)} of ${plural(batches.length, "batch", "batches")}: ${refused[0]?.error}`);
      }
    } catch (problem) {
      setError(String((problem as Error).message));
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog.Root
      lazyMount
      onOpenChange={(change: { open: boolean }) => {
        setOpen(change.open);
        setError(undefined);
      }}
      open={open}
      placement="center"
      role="alertdialog"
      unmountOnExit
    >
      <Dialog.Trigger asChild>
        <Button colorPalette="red" ms="auto" size="xs" variant="outline">
          {job.batches === 1 ? "Cancel batch" : "Cancel batches"}
        </Button>
      </Dialog.Trigger>
      <Portal>
        <Dialog.Backdrop />
        <Dialog.Positioner>
          <Dialog.Content>
            <Dialog.Header>
              <Dialog.Title>
                Cancel {left === job.batches ? "" : "what is left of "}
                {plural(job.batches, "batch", "batches")}?
              </Dialog.Title>
            </Dialog.Header>
            <Dialog.Body>
              <Stack gap={3}>
                <Text>
                  This stops {job.dag_id} ({job.run_id}) at Claude
                  {job.requests === null ? "" : `: ${plural(job.requests, "request")} in all`}. Requests that are
                  finished by then are billed and delivered as usual; the others end as canceled and cost nothing.
                </Text>
                <Text>It cannot be undone.</Text>
                {error === undefined ? undefined : <ErrorNote>{error}</ErrorNote>}
              </Stack>
            </Dialog.Body>
            <Dialog.Footer>
              <Dialog.ActionTrigger asChild>
                <Button variant="outline">Keep running</Button>
              </Dialog.ActionTrigger>
              <Button colorPalette="red" loading={busy} onClick={() => void confirm()}>
                {job.batches === 1 ? "Cancel batch" : "Cancel batches"}
              </Button>
            </Dialog.Footer>
          </Dialog.Content>
        </Dialog.Positioner>
      </Portal>
    </Dialog.Root>
  );
};
