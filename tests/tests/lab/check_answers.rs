//! What health checks make of answers.
