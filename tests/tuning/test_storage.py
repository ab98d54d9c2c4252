"""Where a study may be kept, and that nobody is told the password."""

import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from lightning_posttrain.tuning.storage import StudyStorage
from lightning_posttrain.types import UserError
from tests.tuning.fakes import open_study, settings

SECRET = "s3cr:t/{x}@"
QUOTED = "s3cr%3At%2F%7Bx%7D%40"
URL = f"postgresql://tuner:{QUOTED}@127.0.0.1:1/studies?sslmode=disable&password={QUOTED}"


def test_a_study_is_a_file_in_its_folder_by_default(tmp_path):
    storage = StudyStorage(None, tmp_path / "a", "name")
    assert storage.told == f"sqlite:///{tmp_path}/a/study.db"
    open_study(settings(tmp_path))
    assert (tmp_path / "study/study.db").is_file()


def test_two_studies_may_share_a_file(tmp_path):
    url = f"sqlite:///{tmp_path}/both.db"
    for name in ("one", "two"):
        assert open_study(settings(tmp_path, storage=url, name=name)).next().number == 0
    assert (tmp_path / "both.db").is_file()


def test_a_server_is_spoken_to_by_the_driver_that_is_installed(tmp_path):
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        storage = StudyStorage(f"{scheme}://a:b@host:5/c", tmp_path, "name")
        assert storage.url.drivername == "postgresql+psycopg"
        assert storage.told == "postgresql+psycopg://a:***@host:5/c"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_study_in_memory_is_refused(tmp_path, url):
    with pytest.raises(UserError, match="in memory is lost"):
        StudyStorage(url, tmp_path, "name")


def test_what_is_no_url_is_refused_without_repeating_it(tmp_path):
    with pytest.raises(UserError, match="is no URL of a database") as error:
        StudyStorage(f"tuner:{SECRET}", tmp_path, "name")
    assert "s3cr" not in str(error.value)


def test_a_server_that_is_away_is_told_without_the_password(tmp_path, capfd):
    storage = StudyStorage(URL, tmp_path, "name")
    with pytest.raises(UserError, match="Connection refused") as error, storage.faults(), storage.turn():
        pass
    assert str(error.value).startswith("storage=postgresql+psycopg://tuner:***@127.0.0.1:1/studies: the database says:")
    for text in (str(error.value), *capfd.readouterr(), repr(error.value.__cause__)):
        assert SECRET not in text
        assert QUOTED not in text


def test_a_database_that_repeats_the_password_is_cut_short(tmp_path):
    storage = StudyStorage(URL, tmp_path, "name")
    said = OperationalError("SELECT 1", {}, Exception(f"cannot connect with {SECRET} by {storage._whole}"))
    assert storage.hidden(said) == "the database says: cannot connect with *** by ***"


def test_a_driver_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="its driver is not installed") as error:
        StudyStorage(f"postgresql+nodriver://a:{QUOTED}@host/c", tmp_path, "name")
    assert str(error.value).startswith("storage=postgresql+nodriver://a:***@host/c: ")
    assert "lightning-posttrain[postgres]" in str(error.value)


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "x.db").write_text("not a database at all, but long enough to be read as one" * 20)
    storage = StudyStorage(f"sqlite:///{tmp_path}/x.db", tmp_path, "name")
    with pytest.raises(UserError, match="file is not a database"), storage.faults(), storage.turn():
        storage.open()


def test_a_turn_is_one_at_a_time(tmp_path):
    storage = StudyStorage(None, tmp_path, "name")
    inside, most = [], []

    def take():
        for _ in range(5):
            with StudyStorage(None, tmp_path, "name").turn():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.005)
                inside.pop()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    with pytest.raises(ZeroDivisionError), storage.turn():  # an error gives it back too
        most.append((len(inside) + 1) / len(most[:0]))
    for thread in threads:
        thread.join()
    assert (len(most), set(most)) == (20, {1})
