//! Folders of the host that are lent to a guest.
