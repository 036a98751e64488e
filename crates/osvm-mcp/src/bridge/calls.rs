//! Requests that are open, found by either side's id.

use std::collections::{BTreeMap, HashMap};

/// Requests that are open at once. More are refused.
const MOST_OPEN: usize = 1024;

/// What is open, by numbers that count up.
#[derive(Debug)]
pub(super) struct Calls<T> {
    next: u64,
    calls: BTreeMap<u64, Call<T>>,
    by_client: HashMap<String, u64>,
    by_server: HashMap<String, u64>,
}

#[derive(Debug)]
pub(super) struct Call<T> {
    /// By which the client waits for its answer, if it does.
    client: Option<String>,
    /// By which the server was asked, if it has not answered.
    server: Option<String>,
    pub(super) about: T,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        let (calls, by_client, by_server) = Default::default();
        Self { next: 0, calls, by_client, by_server }
    }
}

impl<T> Call<T> {
    pub(super) fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }
}

impl<T> Calls<T> {
    pub(super) fn is_full(&self) -> bool {
        self.calls.len() >= MOST_OPEN
    }

    pub(super) fn open(&mut self, client: String, server: String, about: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_client.insert(client.clone(), number);
        self.by_server.insert(server.clone(), number);
        self.calls.insert(number, Call { client: Some(client), server: Some(server), about });
        number
    }

    pub(super) fn of_client(&self, id: &str) -> Option<u64> {
        self.by_client.get(id).copied()
    }

    pub(super) fn of_server(&self, id: &str) -> Option<u64> {
        self.by_server.get(id).copied()
    }

    pub(super) fn get(&mut self, number: u64) -> Option<&mut Call<T>> {
        self.calls.get_mut(&number)
    }

    /// In the order in which they were opened.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Call<T>)> {
        self.calls.iter().map(|(number, call)| (*number, call))
    }

    /// From now on the client waits by this id, or not at all.
    pub(super) fn set_client(&mut self, number: u64, id: Option<String>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if let Some(old) = std::mem::replace(&mut call.client, id.clone()) {
            self.by_client.remove(&old);
        }
        if let Some(id) = id {
            self.by_client.insert(id, number);
        }
    }

    /// From now on the server is asked by this id, or not at all.
    pub(super) fn set_server(&mut self, number: u64, id: Option<String>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if let Some(old) = std::mem::replace(&mut call.server, id.clone()) {
            self.by_server.remove(&old);
        }
        if let Some(id) = id {
            self.by_server.insert(id, number);
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Call<T>> {
        let call = self.calls.remove(&number)?;
        if let Some(id) = &call.client {
            self.by_client.remove(id);
        }
        if let Some(id) = &call.server {
            self.by_server.remove(id);
        }
        Some(call)
    }
}
