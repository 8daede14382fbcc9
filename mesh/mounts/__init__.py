"""Tools from anywhere, for packs: MCP servers, OpenAPI services, SQL statements, mail; all of them plain tools."""
