/** What the page says before the first job: how to get one. */
import { Box, Code, Heading, Link, Stack, Text } from "@chakra-ui/react";

import { t, tx } from "./text";

const EXAMPLE = `from airflow.sdk import dag, task


@dag
def first_batch():
    @task.claude_batch(model="claude-haiku-4-5", max_tokens=200)
    def ask():
        for subject in ["a batch", "a DAG", "an asset"]:
            yield f"Explain in one sentence what {subject} is."

    ask()


first_batch()`;

export const Empty = () => (
  <Stack borderRadius="md" borderWidth="1px" gap={4} p={6}>
    <Heading size="md">{t("No batch has been submitted yet")}</Heading>
    <Text maxW="65ch">
      {tx(
        "A job appears here as soon as a task starts to submit it: how far its batches are, what they cost, and why requests failed. This is a whole DAG; save it as {file} among your DAGs, and trigger it:",
        { file: <Code size="sm">first_batch.py</Code> },
      )}
    </Text>
    <Box overflowX="auto">
      <Code display="block" p={4} size="sm" whiteSpace="pre">
        {EXAMPLE}
      </Code>
    </Box>
    <Text color="fg.muted" fontSize="sm">
      {tx("The key is the password of the connection {connection}, or in {variable}. Jobs of DAGs that you may not read are not shown. About batches: {docs}.", {
        connection: <Code size="xs">anthropic_default</Code>,
        docs: (
          <Link
            color="fg.info"
            href="https://platform.claude.com/docs/en/build-with-claude/batch-processing"
            rel="noreferrer"
            target="_blank"
          >
            {t("Claude’s documentation")}
          </Link>
        ),
        variable: <Code size="xs">ANTHROPIC_API_KEY</Code>,
      })}
    </Text>
  </Stack>
);
