//! Collects, stores, shows and alarms.
