//! Which hosts a guest may reach.
