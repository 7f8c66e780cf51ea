//! The outside, played by the test: providers and Slack, speaking the real wire and misbehaving as the real ones do.
