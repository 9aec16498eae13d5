//! What is going on at the moment, by number: added when it begins, removed when it ends, read seldom.
//!
//! What is added last is mostly removed first, which costs no search. The others leave a gap, and the gaps are closed
//! when they are more than the rest: so ten thousand that end in any order cost no more each than ten.

#[derive(Debug)]
pub struct Register<T> {
    /// In the order of their numbers.
    entries: Vec<(u64, Option<T>)>,
    gaps: usize,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), gaps: 0 }
    }
}

impl<T> Register<T> {
    /// Adds one. Its number is higher than those before.
    pub fn add(&mut self, number: u64, one: T) {
        self.entries.push((number, Some(one)));
    }

    /// Hands it back; `None` if it is not there.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let removed = self.entries[at].1.take()?;
        self.gaps += 1;
        while let Some((_, None)) = self.entries.last() {
            self.entries.pop();
            self.gaps -= 1;
        }
        if self.gaps > self.entries.len() / 2 {
            self.entries.retain(|(_, one)| one.is_some());
            self.gaps = 0;
        }
        Some(removed)
    }

    /// All that are there, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().filter_map(|(number, one)| one.as_ref().map(|one| (*number, one)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn there(register: &Register<u64>) -> Vec<u64> {
        register
            .iter()
            .map(|(number, one)| {
                assert_eq!(number, *one);
                number
            })
            .collect()
    }

    #[test]
    fn what_was_removed_is_not_there_whatever_the_order() {
        for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 1, 5, 2, 4]] {
            let mut register = Register::default();
            (1..=5).for_each(|number| register.add(number, number));
            let mut left: Vec<u64> = (1..=5).collect();
            for number in order {
                assert_eq!(register.remove(number), Some(number));
                assert_eq!(register.remove(number), None);
                left.retain(|one| *one != number);
                assert_eq!(there(&register), left);
            }
        }
    }

    #[test]
    fn it_does_not_grow_with_those_that_ended() {
        let mut register = Register::default();
        register.add(0, 0);
        for number in 1..1000 {
            register.add(number, number);
            if number > 10 {
                assert_eq!(register.remove(number - 10), Some(number - 10));
            }
        }
        assert_eq!(there(&register).len(), 11);
        assert!(register.entries.len() < 40);
    }
}
