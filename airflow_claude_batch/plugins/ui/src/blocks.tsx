/** Titled parts of a job's details. */
import { Box, Text } from "@chakra-ui/react";
import type { ReactNode } from "react";

export const Fact = ({ children, name }: { readonly children: ReactNode; readonly name: string }) => (
  <Box>
    <Text as="dt" color="fg.muted" fontSize="xs">
      {name}
    </Text>
    <Box as="dd" fontSize="sm" fontVariantNumeric="tabular-nums" overflowWrap="anywhere">
      {children}
    </Box>
  </Box>
);

export const Block = ({ children, title }: { readonly children: ReactNode; readonly title: string }) => (
  <Box as="section">
    <Text as="h3" fontSize="sm" fontWeight="semibold" mb={2}>
      {title}
    </Text>
    {children}
  </Box>
);
