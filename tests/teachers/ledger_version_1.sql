PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE claims (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, owner TEXT NOT NULL, machine TEXT NOT NULL,
    pid INTEGER NOT NULL, expires REAL NOT NULL, reserved_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE failures (
    key TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, unsure_usd REAL NOT NULL,
    at REAL NOT NULL
);
CREATE TABLE replies (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, endpoint TEXT NOT NULL, attempt INTEGER NOT NULL,
    request TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    usage_estimated INTEGER NOT NULL, usd REAL NOT NULL, seconds REAL NOT NULL,
    arrived REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO "replies" VALUES('033ab4d2ddf8e0ffb47d5415a88450ea2063b671565486db043dd606caf8e003','paid','https://api.example.com/v1',0,'{"model": "paid", "messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": "q1"}], "max_tokens": 100, "temperature": 0.0, "seed": 0}','I read ''q1'' and think. [[A]]','stop',20,10,0,4.0e-05,2.08350799994150293059e-03,1.79569796800325441358e+09);
INSERT INTO "replies" VALUES('4af32aa9f0d939c4ad7a027dcd81d61534a1bd878a979a39cca943a2957a369e','paid','https://api.example.com/v1',0,'{"model": "paid", "messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": "q2"}], "max_tokens": 100, "temperature": 0.0, "seed": 0}','I read ''q2'' and think. [[A]]','stop',20,10,0,4.0e-05,1.53144999990217911545e-03,1.79569796800901126856e+09);
INSERT INTO "replies" VALUES('96b1d342c1f9a0896613a5e8ade6803b08447264ab781a2c4d951b7ee2260581','paid','https://api.example.com/v1',0,'{"model": "paid", "messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": "q0"}], "max_tokens": 100, "temperature": 0.0, "seed": 0}','I read ''q0'' and think. [[A]]','stop',20,10,0,4.0e-05,4.2999385000030088122e-02,1.79569796799523949621e+09);
INSERT INTO "replies" VALUES('bade69a4209989bb4b9bf6b205ad6d274aae6c87694e83fde61490718b691298','mock','http://127.0.0.1:8000/v1',0,'{"model": "mock", "messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": "q1"}], "max_tokens": 100, "temperature": 0.0, "seed": 0}','I read ''q1'' and think. [[A]]','stop',20,10,0,0.0,1.44807399999535846291e-03,1.79569796809293937686e+09);
INSERT INTO "replies" VALUES('d0264021dc5e22c91a7c3c129d4b227348b20e1a9e5eef64c26a612f4d712243','mock','http://127.0.0.1:8000/v1',0,'{"model": "mock", "messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": "q0"}], "max_tokens": 100, "temperature": 0.0, "seed": 0}','I read ''q0'' and think. [[A]]','stop',20,10,0,0.0,5.21122500003912136889e-03,1.79569796808729267119e+09);
INSERT INTO "replies" VALUES('d33e56a445a14ae2115d3dc221ebd9b0ea840ed79ebfff30cb2e715e7442d736','broken','https://api.example.com/v1',0,'{"model": "broken", "messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": "q0"}], "max_tokens": 100, "temperature": 0.0, "seed": 0}','I read ''q0'' and think. [[A]]','error',20,10,0,0.0,4.81721400001333677209e-03,1.79569796818448662763e+09);
CREATE TABLE spending (
    model TEXT PRIMARY KEY, calls INTEGER NOT NULL, usd REAL NOT NULL, unsure_usd REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO "spending" VALUES('broken',1,0.0,0.0);
INSERT INTO "spending" VALUES('mock',2,0.0,0.0);
INSERT INTO "spending" VALUES('paid',3,1.20000000000000016592e-04,0.0);
CREATE INDEX replies_by_model ON replies (model, prompt_tokens, completion_tokens);
COMMIT;
