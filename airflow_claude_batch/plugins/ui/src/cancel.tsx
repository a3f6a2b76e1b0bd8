/** Cancelling a job's batches, after a second thought. */
import { Button, Dialog, Portal, Stack, Text } from "@chakra-ui/react";
import { useEffect, useRef, useState } from "react";

import { cancelJob, keyOf, type JobDetails } from "./api";
import { count } from "./format";
import { ErrorNote, Note } from "./parts";
import { STILL } from "./still";
import { plural, spoken, t } from "./text";

type Props = { readonly job: JobDetails; readonly onCanceled: () => void };

export const CancelButton = ({ job, onCanceled }: Props) => {
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  const [warning, setWarning] = useState<string>();
  const [done, setDone] = useState(false);
  const keep = useRef<HTMLButtonElement>(null);
  const trigger = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    // The drawer that this opens from holds the focus until its own trap has paused.
    const timer = open ? setTimeout(() => keep.current?.focus(), 60) : undefined;

    return () => clearTimeout(timer);
  }, [open, done]);
  const left = job.batches - job.batches_ended;

  const confirm = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const { batches, warning: unproved } = await cancelJob(keyOf(job));
      const refused = batches.filter((batch) => batch.error !== null);

      onCanceled();
      setWarning(unproved ?? undefined);
      setDone(refused.length < batches.length);
      if (refused.length === 0 && unproved === null) {
        setOpen(false);
      } else if (refused.length > 0) {
        const why = refused[0]?.error ?? "";

        setError(plural(batches.length, "{refused} of {n} batch: {why}", "{refused} of {n} batches: {why}", { refused: count(refused.length), why }));
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
      // With an animation a busy browser may miss its end, and the closed dialog stays on the screen.
      motionPreset="none"
      onOpenChange={(change: { open: boolean }) => {
        setOpen(change.open);
        setError(undefined);
        setWarning(undefined);
        setDone(false);
      }}
      finalFocusEl={() => trigger.current}
      initialFocusEl={() => keep.current}
      open={open}
      placement="center"
      role="alertdialog"
      unmountOnExit
    >
      <Dialog.Trigger asChild>
        <Button colorPalette="red" ms="auto" ref={trigger} size="xs" variant="outline">
          {job.batches === 1 ? t("Cancel batch") : t("Cancel batches")}
        </Button>
      </Dialog.Trigger>
      <Portal>
        <Dialog.Backdrop className={STILL} />
        <Dialog.Positioner>
          <Dialog.Content {...spoken()} className={STILL}>
            <Dialog.Header>
              <Dialog.Title>
                {left === job.batches
                  ? plural(job.batches, "Cancel {n} batch?", "Cancel {n} batches?")
                  : plural(job.batches, "Cancel what is left of {n} batch?", "Cancel what is left of {n} batches?")}
              </Dialog.Title>
            </Dialog.Header>
            <Dialog.Body>
              <Stack gap={3}>
                <Text>
                  {job.requests === null
                    ? t("This stops {dag} ({run}) at Claude.", { dag: job.dag_id, run: job.run_id })
                    : t("This stops {dag} ({run}) at Claude: {requests} in all.", {
                        dag: job.dag_id,
                        requests: plural(job.requests, "{n} request", "{n} requests"),
                        run: job.run_id,
                      })}{" "}
                  {t("Requests that are finished by then are billed and delivered as usual; the others end as canceled and cost nothing.")}
                </Text>
                <Text>{t("It cannot be undone.")}</Text>
                {error === undefined ? undefined : <ErrorNote>{error}</ErrorNote>}
                {warning === undefined ? undefined : <Note>{warning}</Note>}
              </Stack>
            </Dialog.Body>
            <Dialog.Footer>
              <Dialog.ActionTrigger asChild>
                <Button ref={keep} variant="outline">
                  {done ? t("Close") : t("Keep running")}
                </Button>
              </Dialog.ActionTrigger>
              {done ? undefined : (
                <Button colorPalette="red" loading={busy} onClick={() => void confirm()}>
                  {job.batches === 1 ? t("Cancel batch") : t("Cancel batches")}
                </Button>
              )}
            </Dialog.Footer>
          </Dialog.Content>
        </Dialog.Positioner>
      </Portal>
    </Dialog.Root>
  );
};
