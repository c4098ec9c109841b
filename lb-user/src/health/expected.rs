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
        send()?;
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

#[cfg(test)]
mod tests {
    use tokio::{join, time::timeout};

    use super::*;

    #[tokio::test]
    async fn each_answer_goes_to_whom_it_is_for() {
        let expected = Expected::default();
        let asks = async { join!(expected.ask(1, || Ok(())), expected.ask(2, || Ok(()))) };
        let answers = async {
            expected.answer(&3, "nobody's");
            expected.answer(&2, "two");
            expected.answer(&1, "one");
            expected.answer(&1, "late");
        };
        let (answers, ()) = join!(asks, answers);
        assert_eq!(answers, (Ok("one"), Ok("two")));
        assert!(expected.0.borrow().is_empty());
    }

    #[tokio::test]
    async fn nothing_waits_once_a_check_is_over() {
        let expected = Expected::<u8, ()>::default();
        let silent = timeout(Default::default(), expected.ask(1, || Ok(()))).await;
        assert!(silent.is_err());
        let unsent = || Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        let unsent = expected.ask(2, unsent).await;
        assert!(matches!(unsent, Err(Failure::Unsent(_))), "{unsent:?}");
        assert!(expected.0.borrow().is_empty());
    }
}
