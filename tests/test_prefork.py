"""Programs that fork workers: multiprocessing and prefork servers."""

from __future__ import annotations

import pytest

from scripts import forking

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


@scopes
def test_multiprocessing_with_the_fork_context(scope: str) -> None:
    """Process and Pool children call the bridge that their parent uses, and end with status 0 (cases 80,
    81)."""
    end = forking(
        scope,
        """
import multiprocessing

def work(number):
    call()
    return number * 2

context = multiprocessing.get_context("fork")
call()
processes = [context.Process(target=work, args=(number,)) for number in range(3)]
for process in processes:
    process.start()
call()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
with context.Pool(2) as pool:
    print(pool.map(work, range(6)))
    call()
    pool.close()
    pool.join()
call()
""",
    )
    assert end.lines == ["[0, 0, 0]", "[0, 2, 4, 6, 8, 10]"]
    end.assert_clean()


@scopes
def test_a_prefork_server(scope: str) -> None:
    """A master that made calls itself forks workers, which serve with one loop each, not an inherited
    one (case 81)."""
    end = forking(
        scope,
        """
import signal

listener = socket.create_server(("127.0.0.1", 0))
loops = set()

async def handle(text):
    loops.add(id(asyncio.get_running_loop()))
    await asyncio.sleep(0)
    return f"{text} {os.getpid()} {len(loops)}"

def serve():
    loops.clear()
    while True:
        connection, _ = listener.accept()
        with connection:
            text = connection.recv(100).decode()
            if text == "stop":
                return
            connection.sendall(bridge.run_sync(handle, text).encode())

def ask(text):
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(text.encode())
        return client.recv(100).decode()

bridge.run_sync(handle, "preload")
workers = []
for _ in range(2):
    worker = os.fork()
    if worker == 0:
        serve()
        sys.exit(0)
    workers.append(worker)
answers = [ask(f"question{number}").split() for number in range(40)]
print([answer[0] for answer in answers] == [f"question{number}" for number in range(40)])
print({int(answer[1]) for answer in answers} <= set(workers), {answer[2] for answer in answers})
for _ in workers:
    ask("stop")
print([os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers])
bridge.run_sync(handle, "after")
listener.close()
""",
    )
    assert end.lines == ["True", "True {'1'}", "[0, 0]"]
    end.assert_clean()
