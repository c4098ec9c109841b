//! Answers that are waited for on a socket that checks share.

use std::{cell::RefCell, collections::HashMap, hash::Hash, io};

use tokio::sync::oneshot;

use super::Failure;

/// Who waits for which answer, by what tells the answers apart.
pub(super) struct Expected<K, V>(RefCell<HashMap<K, oneshot::Sender<V>>>);

impl<K, V> Default for Expected<K, V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Copy + Eq + Hash, V> Expected<K, V> {
    /// Sends what is asked and waits for the answer, as long as the caller likes.
    pub(super) async fn ask(
        &self,
        key: K,
        send: impl FnOnce() -> io::Result<()>,
    ) -> Result<V, Failure> {
        let (sender, answer) = oneshot::channel();
        self.0.borrow_mut().insert(key, sender);
        let _forget = Forget {
            expected: self,
            key,
        };
        send().map_err(|error| Failure::Unsent(error.to_string()))?;
        let answer = answer.await;
        answer.map_err(|_| Failure::Unsent("another check was mistaken for it".to_owned()))
    }

    /// An answer came. Nobody may wait for it any more.
    pub(super) fn answer(&self, key: &K, answer: V) {
        let waiting = self.0.borrow_mut().remove(key);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }
}

/// Ends the waiting when its check is over, whatever comes of it.
struct Forget<'a, K: Copy + Eq + Hash, V> {
    expected: &'a Expected<K, V>,
    key: K,
}

impl<K: Copy + Eq + Hash, V> Drop for Forget<'_, K, V> {
    fn drop(&mut self) {
        self.expected.0.borrow_mut().remove(&self.key);
    }
}
