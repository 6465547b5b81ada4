//! API keys, tokens, tickets and revocations.
