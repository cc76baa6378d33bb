"""The vocabulary: every column name and shared constant of the tables, spelled once.

External ids (`user_id`, `item_id`) are strings as they came. Dense ids (`user_idx` int64, `item_idx` int32) are
given by the clean stage and never change afterwards. They meet only in the tables `users`, `items` and `top_n`.
"""

USER_ID = "user_id"
ITEM_ID = "item_id"
USER_IDX = "user_idx"
ITEM_IDX = "item_idx"

EVENT_TS = "event_ts"
EVENT_TYPE = "event_type"
WEIGHT = "weight"
RATING = "rating"
QUANTITY = "quantity"
PRICE = "price"

TITLE = "title"
CATEGORIES = "categories"
TEXT = "text"
WITHDRAWN = "withdrawn"
SEGMENT = "segment"
ATTRIBUTES = "attributes"

SOURCE_FILE = "source_file"
REASON = "reason"
DETAIL = "detail"
ROW = "row"

FOLD = "fold"
TRAIN = "train"
VALID = "valid"
TEST = "test"
COLD_USER = "cold_user"
COLD_ITEM = "cold_item"
"""The folds of who is held out whole; and of the positives and lists that tell how newcomers are served."""

AS_OF = "as_of"
RELEASE = "release"
BACKTEST = "backtest"

MODEL = "model"
SCORE = "score"
RANK = "rank"
SOURCE = "source"
BECAUSE = "because"
RUN_DATE = "run_date"
RUN_ID = "run_id"
MODEL_VERSION = "model_version"
DIVERSITY = "diversity"
MAX_PER_CATEGORY = "max_per_category"
K = "k"

POPULARITY = "popularity"
ALS = "als"
ITEM_KNN = "item_knn"
ITEM_RIDGE = "item_ridge"
USER_KNN = "user_knn"
SVD = "svd"
CONTENT = "content"
NETWORK = "network"
FUSED = "fused"
MODELS = (POPULARITY, ALS, ITEM_KNN, ITEM_RIDGE, USER_KNN, SVD, CONTENT, NETWORK)

FORMER_NAMES = {"item_cosine": ITEM_KNN, "user_cosine": USER_KNN}
"""Names that models had in earlier versions, still found in old configs, saved models and published nights."""

DROPPED = "dropped"
"""In the manifest of the backtest's score stage: the models that the release does without."""

PER_TARGET = "targets"
PER_USER = "users"
"""What an example of training is: an item and the history before it, or a user."""

PADDING_ITEM = 0
"""The item index that means "no item": real items start at 1, and every item array has a row 0 that is never scored."""

COLD_START = "cold_start"
"""Key of `metrics.json`: how users and items that were held out whole are served."""
DIVERSITY_TRADEOFF = "diversity_tradeoff"
"""Folder of the lists, and key of `metrics.json`: accuracy and coverage under several settings of diversity and of the cap."""
