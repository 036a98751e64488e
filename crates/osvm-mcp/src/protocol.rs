//! Numbers and names that the protocol has settled.

/// JSON-RPC's own codes.
pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
/// Also for a tool that is not there, or may not be called.
pub(crate) const INVALID_PARAMS: i64 = -32602;
/// It is not the client's fault.
pub(crate) const INTERNAL_ERROR: i64 = -32603;

/// Codes of the modern era.
pub(crate) const HEADER_MISMATCH: i64 = -32020;
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// What `_meta` of a modern request says.
pub(crate) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub(crate) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// Which subscription a notification, or the end of one, is for.
pub(crate) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
